# One key for each kind of data, so that each service agent of Google may use exactly its own.
# Keys are never destroyed by Terraform: with a key go the data, the backups and the field encryption under it.

locals {
  kms_rotation_seconds = 7776000 # 90 days
  kms_destroy_seconds  = 2592000 # 30 days to change one's mind about a version

  # Which agent of Google encrypts with which key. `fields` has none: our own services use it (iam.tf).
  kms_agents = {
    database  = google_project_service_identity.main["sqladmin"].member
    cache     = google_project_service_identity.main["memorystore"].member
    storage   = data.google_storage_project_service_account.main.member
    secrets   = google_project_service_identity.main["secretmanager"].member
    cluster   = google_project_service_identity.main["container"].member
    registry  = google_project_service_identity.main["artifactregistry"].member
    logging   = "serviceAccount:${data.google_logging_project_cmek_settings.main.service_account_id}"
    pubsub    = google_project_service_identity.main["pubsub"].member
    run       = google_project_service_identity.main["run"].member
    workflows = google_project_service_identity.main["workflows"].member
  }
  kms_keys = toset(concat(keys(local.kms_agents), ["fields"]))
}

# Agents come into being at their first use; a key must be granted before.
resource "google_project_service_identity" "main" {
  for_each = toset(["sqladmin", "memorystore", "secretmanager", "container", "artifactregistry", "pubsub", "run", "workflows"])
  provider = google-beta

  service = "${each.key}.googleapis.com"

  depends_on = [google_project_service.main]
}

data "google_storage_project_service_account" "main" {
  depends_on = [google_project_service.main]
}

data "google_logging_project_cmek_settings" "main" {
  project = var.project

  depends_on = [google_project_service.main]
}

resource "google_kms_key_ring" "main" {
  name     = "main"
  location = var.region

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.main]
}

resource "google_kms_crypto_key" "main" {
  for_each = local.kms_keys

  name                       = each.key
  key_ring                   = google_kms_key_ring.main.id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "${local.kms_rotation_seconds}s"
  destroy_scheduled_duration = "${local.kms_destroy_seconds}s"

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = local.kms_agents

  crypto_key_id = google_kms_crypto_key.main[each.key].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}

# A key never leaves its region, so a copy of the database elsewhere has one of its own.
resource "google_kms_key_ring" "replica" {
  count = var.replica_region == null ? 0 : 1

  name     = "replica"
  location = var.replica_region

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.main]
}

resource "google_kms_crypto_key" "replica" {
  count = var.replica_region == null ? 0 : 1

  name                       = "database"
  key_ring                   = google_kms_key_ring.replica[0].id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "${local.kms_rotation_seconds}s"
  destroy_scheduled_duration = "${local.kms_destroy_seconds}s"

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "replica" {
  count = var.replica_region == null ? 0 : 1

  crypto_key_id = google_kms_crypto_key.replica[0].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = local.kms_agents.database
}
