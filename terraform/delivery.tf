# Who delivers: `build` makes an image and attests it, `release` puts it in front. Neither can do the other's part, and
# neither can grant, read a secret or reach the database: what a release runs as, the services' own accounts may do.
# Each pipeline runs as one of them, and begins the next by a message (docs/delivery.md).

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
  for_each = toset(["roles/logging.logWriter", "roles/run.developer"])

  project = var.project
  role    = each.key
  member  = google_service_account.delivery["release"].member
}

resource "google_project_iam_custom_role" "release" {
  role_id = "release"
  title   = "Leads the gateway to another document, and reaches the cluster, where a Role of its own says what it may"
  permissions = [
    "apigateway.apiconfigs.create",
    "apigateway.apiconfigs.delete",
    "apigateway.apiconfigs.get",
    "apigateway.apiconfigs.list",
    "apigateway.gateways.get",
    "apigateway.gateways.update",
    "apigateway.operations.get",
    "container.clusters.connect",
    "container.clusters.get",
  ]

  depends_on = [google_project_service.main]
}

resource "google_project_iam_member" "behind_functions" {
  project = var.project
  role    = google_project_iam_custom_role.release.id
  member  = google_service_account.delivery["release"].member
}

resource "google_artifact_registry_repository_iam_member" "release" {
  location   = google_artifact_registry_repository.main.location
  repository = google_artifact_registry_repository.main.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.delivery["release"].member
}

resource "google_service_account_iam_member" "release" {
  for_each = setunion(keys(local.services), [for job in local.jobs : job.account], ["gateway"])

  service_account_id = google_service_account.main[each.key].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.delivery["release"].member
}

resource "google_service_account_iam_member" "identity" { # the identity tokens with which it asks: Cloud Build makes them so
  service_account_id = google_service_account.delivery["release"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_service_account.delivery["release"].member
}

resource "google_cloud_run_v2_service_iam_member" "release" { # it asks new revisions for their health
  for_each = { for name, service in local.deployed_services : name => service if service.ingress == "all" }

  name     = google_cloud_run_v2_service.main[each.key].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.delivery["release"].member
}

# From one to the other: a message names an image and its commit. In staging the builder writes it, in production the
# builder that has promoted an image; `candidates` is how staging asks for that. Pipelines: docs/delivery.md

locals {
  promotes   = var.promoted_from != null # production builds nothing: it takes what staging ran
  repository = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.main.repository_id}"
  delivers   = var.source_repository == null ? toset([]) : toset(["main"])
  source     = try(split("/", var.source_repository), []) # projects, P, locations, R, connections, C, …
  topics     = local.promotes ? toset(["candidates", "releases"]) : toset(["releases"])

  announced = {
    promotion = { # waits for a person
      topic    = "candidates"
      account  = "build"
      file     = "delivery/promotion.yaml"
      images   = "${var.region}-docker.pkg.dev/${coalesce(var.promoted_from, "none")}/dev-context"
      approved = true
      values   = { _STAGING = coalesce(var.promoted_from, "none"), _REPOSITORY = local.repository }
    }
    release = {
      topic    = "releases"
      account  = "release"
      file     = "delivery/${var.environment}.yaml"
      images   = local.repository
      approved = false
      values   = merge({ _DOMAIN = var.domain, _SOURCE = var.source_repository }, local.promotes ? {} : { _PRODUCTION = var.promoted_to == null ? "" : var.promoted_to })
    }
  }
}

resource "google_pubsub_topic" "delivery" {
  for_each = local.topics

  name         = each.key
  kms_key_name = google_kms_crypto_key.main["pubsub"].id

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

resource "google_pubsub_topic_iam_member" "releases" {
  topic  = google_pubsub_topic.delivery["releases"].name
  role   = "roles/pubsub.publisher"
  member = google_service_account.delivery["build"].member
}

resource "google_pubsub_topic_iam_member" "candidates" {
  for_each = local.promotes ? toset([var.promoted_from]) : toset([])

  topic  = google_pubsub_topic.delivery["candidates"].name
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:dc-release@${each.key}.iam.gserviceaccount.com"
}

# What production's builder sees of staging: the image, and who has attested it.

locals {
  promoters = var.promoted_to == null ? toset([]) : toset(["serviceAccount:dc-build@${var.promoted_to}.iam.gserviceaccount.com"])
}

resource "google_artifact_registry_repository_iam_member" "promoter" {
  for_each = local.promoters

  location   = google_artifact_registry_repository.main.location
  repository = google_artifact_registry_repository.main.repository_id
  role       = "roles/artifactregistry.reader"
  member     = each.key
}

resource "google_container_analysis_note_iam_member" "promoter" {
  for_each = local.promoters

  note   = google_container_analysis_note.built.name
  role   = "roles/containeranalysis.notes.occurrences.viewer"
  member = each.key
}

resource "google_binary_authorization_attestor_iam_member" "promoter" {
  for_each = local.promoters

  attestor = google_binary_authorization_attestor.built.name
  role     = "roles/binaryauthorization.attestorsViewer"
  member   = each.key
}

resource "google_project_iam_member" "approver" {
  for_each = toset(var.approvers)

  project = var.project
  role    = "roles/cloudbuild.builds.approver"
  member  = each.key
}

# History is fetched inside the builds, where git has no credentials: these may read, no more.
resource "google_cloudbuildv2_connection_iam_member" "source" {
  for_each = length(local.delivers) == 0 ? {} : {
    for name, account in google_service_account.delivery : name => account.member
  }

  project  = local.source[1]
  location = local.source[3]
  name     = local.source[5]
  role     = "roles/cloudbuild.readTokenAccessor"
  member   = each.value
}

# The triggers. What a pull request says never runs here: its author may be anybody (docs/decisions/0033).

resource "google_cloudbuild_trigger" "build" {
  for_each = local.promotes ? toset([]) : local.delivers

  name            = "build"
  description     = "Checks main, builds and attests its image"
  location        = var.region
  service_account = google_service_account.delivery["build"].id
  filename        = "cloudbuild.yaml"
  substitutions   = { _REPOSITORY = local.repository, _SOURCE = var.source_repository }

  repository_event_config {
    repository = var.source_repository

    push {
      branch = "^main$"
    }
  }
}

resource "google_cloudbuild_trigger" "announced" {
  for_each = {
    for name, entry in local.announced : name => entry
    if length(local.delivers) > 0 && contains(local.topics, entry.topic)
  }

  name            = each.key
  description     = "delivery/ for an image that was announced"
  location        = var.region
  service_account = google_service_account.delivery[each.value.account].id
  filter          = "_IMAGE.matches(\"^${replace(each.value.images, ".", "[.]")}/dev-context@sha256:[0-9a-f]{64}$\") && _COMMIT.matches(\"^[0-9a-f]{40}$\")"
  substitutions = merge(each.value.values, {
    _IMAGE  = "$(body.message.data.image)"
    _COMMIT = "$(body.message.data.commit)"
  })

  pubsub_config {
    topic = google_pubsub_topic.delivery[each.value.topic].id
  }

  source_to_build {
    repository = var.source_repository
    ref        = "refs/heads/main"
    repo_type  = "GITHUB"
  }

  git_file_source {
    path       = each.value.file
    repository = var.source_repository
    revision   = "refs/heads/main"
    repo_type  = "GITHUB"
  }

  approval_config {
    approval_required = each.value.approved
  }
}
