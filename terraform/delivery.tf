# Who delivers: `build` makes an image and attests it, `release` puts it in front. Neither can do the other's part, and
# neither can grant, read a secret or reach the database: what a release runs as, the services' own accounts may do.

resource "google_service_account" "delivery" {
  for_each = {
    build   = "Builds, checks and attests images"
    release = "Runs the release jobs and moves traffic"
  }

  account_id   = "dc-${each.key}"
  display_name = each.value

  depends_on = [google_project_service.main]
}

# build

resource "google_project_iam_member" "build" {
  for_each = toset(["roles/logging.logWriter", "roles/containeranalysis.occurrences.editor"])

  project = var.project
  role    = each.key
  member  = google_service_account.delivery["build"].member
}

resource "google_storage_bucket_iam_member" "build" { # the sources come by this bucket, and the log of the build
  bucket = google_storage_bucket.main["sources"].name
  role   = "roles/storage.objectUser"
  member = google_service_account.delivery["build"].member
}

resource "google_artifact_registry_repository_iam_member" "build" {
  location   = google_artifact_registry_repository.main.location
  repository = google_artifact_registry_repository.main.repository_id
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.delivery["build"].member
}

resource "google_kms_crypto_key_iam_member" "build" {
  crypto_key_id = google_kms_crypto_key.attestor.id
  role          = "roles/cloudkms.signerVerifier"
  member        = google_service_account.delivery["build"].member
}

resource "google_container_analysis_note_iam_member" "build" {
  note   = google_container_analysis_note.built.name
  role   = "roles/containeranalysis.notes.attacher"
  member = google_service_account.delivery["build"].member
}

resource "google_binary_authorization_attestor_iam_member" "build" {
  attestor = google_binary_authorization_attestor.built.name
  role     = "roles/binaryauthorization.attestorsViewer"
  member   = google_service_account.delivery["build"].member
}

# release

resource "google_project_iam_member" "release" { # operations of Cloud Run have no grants of their own
  project = var.project
  role    = "roles/run.developer"
  member  = google_service_account.delivery["release"].member
}

resource "google_artifact_registry_repository_iam_member" "release" {
  location   = google_artifact_registry_repository.main.location
  repository = google_artifact_registry_repository.main.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.delivery["release"].member
}

resource "google_service_account_iam_member" "release" {
  for_each = setunion(keys(local.services), [for job in local.jobs : job.account])

  service_account_id = google_service_account.main[each.key].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.delivery["release"].member
}

resource "google_cloud_run_v2_service_iam_member" "release" { # it asks new revisions for their health
  for_each = { for name, service in local.deployed_services : name => service if service.ingress == "all" }

  name     = google_cloud_run_v2_service.main[each.key].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.delivery["release"].member
}
