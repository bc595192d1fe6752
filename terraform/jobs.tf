# Cloud Run jobs: what runs to its end before a release or by hand, from the image of the services. An execution may be
# given other arguments: docs/operator.md.

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
        command = ["/usr/bin/python3"]
        args    = ["-m", each.value.module]

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

        dynamic "volume_mounts" {
          for_each = local.job_secrets[each.key]
          content {
            name       = volume_mounts.value
            mount_path = "${local.secrets_dir}/${volume_mounts.key}"
          }
        }
      }

      dynamic "volumes" {
        for_each = local.job_secrets[each.key]
        content {
          name = volumes.value
          secret {
            secret = google_secret_manager_secret.main[volumes.key].secret_id
            items {
              version = "latest"
              path    = "latest"
            }
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

locals {
  # A job by the account of a service that has a context key signs with it.
  job_secrets = {
    for name, job in local.jobs : name => {
      for id in concat(job.secrets, try(job.context_keys, false) ? local.context_keys : []) : id => replace(id, "_", "-")
    }
  }
}
