# Cloud Run jobs: what runs to its end before a release or by hand, from the image of the services. An execution may be
# given other arguments: docs/operator.md. They mount no secrets, since they make the first ones: a volume needs a version
# when the job is made. What a job may read it asks Secret Manager for.

resource "google_cloud_run_v2_job" "main" {
  for_each = local.deployed_jobs

  name                = each.key
  location            = var.region
  deletion_protection = true

  binary_authorization {
    use_default = true
  }

  template {
    task_count  = 1
    parallelism = 1

    template {
      service_account       = google_service_account.main[each.value.account].email
      timeout               = "${each.value.timeout_seconds}s"
      max_retries           = 0 # each may be run again; whether it should is for whoever started it
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
      encryption_key        = google_kms_crypto_key.main["run"].id

      vpc_access {
        egress = "ALL_TRAFFIC"
        network_interfaces {
          network    = google_compute_network.main.id
          subnetwork = google_compute_subnetwork.private.id
        }
      }

      containers {
        image   = var.image
        command = ["/usr/bin/python3", "-m", each.value.module] # no execution overrides it, as it may args and environment

        resources {
          limits = { cpu = "1", memory = "1Gi" }
        }

        dynamic "env" {
          for_each = local.job_settings[each.key]
          content {
            name  = env.key
            value = env.value
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [template[0].template[0].containers[0].image, client, client_version] # tools/release moves it
  }

  depends_on = [
    google_kms_crypto_key_iam_member.agent,
    google_secret_manager_secret_iam_member.reader,
    google_secret_manager_secret_iam_member.writer,
  ]
}
