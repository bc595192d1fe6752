# Cloud Run: one service for each of the catalog, all from one image.
# Terraform owns the configuration, tools/release the image and which revision gets the traffic: a changed configuration
# makes a revision that nobody reaches before the release has tried it (docs/decisions/0029).

resource "google_cloud_run_v2_service" "main" {
  for_each = local.deployed_services

  name                 = each.key
  location             = var.region
  deletion_protection  = true
  custom_audiences     = [local.run_urls[each.key]]
  invoker_iam_disabled = local.past_gateway[each.key] # docs/decisions/0025
  ingress = (
    length(each.value.paths) == 0 ? "INGRESS_TRAFFIC_INTERNAL_ONLY" :
    local.past_gateway[each.key] ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL" # the gateway is no internal caller
  )

  binary_authorization {
    use_default = true
  }

  template {
    service_account                  = google_service_account.main[each.key].email
    timeout                          = "${each.value.timeout_seconds}s"
    max_instance_request_concurrency = each.value.concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    encryption_key                   = google_kms_crypto_key.main["run"].id

    scaling {
      min_instance_count = var.warm ? each.value.min_instances : 0
      max_instance_count = each.value.max_instances
    }

    vpc_access { # everything through our network: its firewall, its NAT, the databases' private addresses
      egress = "ALL_TRAFFIC"
      network_interfaces {
        network    = google_compute_network.main.id
        subnetwork = google_compute_subnetwork.private.id
      }
    }

    containers {
      image = var.image

      ports {
        name           = "http1"
        container_port = 8080
      }

      resources {
        limits            = { cpu = tostring(each.value.cpu), memory = each.value.memory }
        cpu_idle          = true # paid for while it answers
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.service_settings[each.key]
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "volume_mounts" { # one folder for each: two volumes cannot share one
        for_each = local.mounted_secrets[each.key]
        content {
          name       = volume_mounts.value
          mount_path = "${local.secrets_dir}/${volume_mounts.key}"
        }
      }

      startup_probe { # the process starts once database and login are right
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/health/"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10 # longer than a busy moment
        failure_threshold = 4
        http_get {
          path = "/health/"
          port = 8080
        }
      }
    }

    dynamic "volumes" {
      for_each = local.mounted_secrets[each.key]
      content {
        name = volumes.value
        secret {
          secret = google_secret_manager_secret.main[volumes.key].secret_id
          items { # `latest` is fetched anew at each look: SECRETS_CACHE_SECONDS says how often that is
            version = "latest"
            path    = "latest"
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [template[0].containers[0].image, traffic, client, client_version]
  }

  depends_on = [
    google_kms_crypto_key_iam_member.agent,
    google_secret_manager_secret_iam_member.reader, # Cloud Run looks whether the account may read what it mounts
    google_secret_manager_secret_iam_member.writer,
    google_secret_manager_secret_version.valkey_ca,
  ]
}

locals {
  # Secret → volume, whose name takes no underscore and at most 63 characters.
  mounted_secrets = {
    for name, service in local.services : name => {
      for id in setunion(service.secrets, ["context-key-${service.role}"], local.everybodys) : id => replace(id, "_", "-")
    }
  }
}
