# The images of releases. A tag never moves, and every image is scanned as long as it is young enough to be deployed.

resource "google_artifact_registry_repository" "main" {
  repository_id = "dev-context"
  description   = "One image for functions, jobs and the session API"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = google_kms_crypto_key.main["registry"].id

  docker_config {
    immutable_tags = true
  }

  vulnerability_scanning_config {
    enablement_config = "INHERITED" # on, as containerscanning.googleapis.com is enabled (apis.tf)
  }

  cleanup_policies {
    id     = "keep-releases"
    action = "KEEP"

    most_recent_versions {
      keep_count = 20 # what a roll-back may want
    }
  }

  cleanup_policies {
    id     = "forget-old"
    action = "DELETE"

    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}
