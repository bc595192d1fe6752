# The cluster of the session API: Autopilot, private nodes, a control plane without an IP address.
# What runs in it stands in sessions/k8s; docs/sessions-on-gke.md says what the two expect of each other.

resource "google_service_account" "nodes" {
  account_id   = "dc-nodes"
  display_name = "Nodes of the cluster"

  depends_on = [google_project_service.main]
}

resource "google_project_iam_member" "nodes" {
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  location   = google_artifact_registry_repository.main.location
  repository = google_artifact_registry_repository.main.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}

# Disks are encrypted by Compute Engine's agent, Secrets by the cluster's (kms.tf).
resource "google_kms_crypto_key_iam_member" "disks" {
  crypto_key_id = google_kms_crypto_key.main["cluster"].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${data.google_project.main.number}@compute-system.iam.gserviceaccount.com"
}

resource "google_container_cluster" "main" {
  name     = "main"
  location = var.region # three zones, for the control plane too

  enable_autopilot    = true
  deletion_protection = true
  network             = google_compute_network.main.id
  subnetwork          = google_compute_subnetwork.private.id

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes = true
  }

  # Whoever may `container.clusters.connect` comes in by a name of Google's, checked by IAM; no address answers.
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }

    ip_endpoints_config {
      enabled = false
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  # Not even as a group of everybody may anybody who is not named here do anything.
  rbac_binding_config {
    enable_insecure_binding_system_authenticated   = false
    enable_insecure_binding_system_unauthenticated = false
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  binary_authorization {
    evaluation_mode = "PROJECT_SINGLETON_POLICY_ENFORCE"
  }

  database_encryption {
    state    = "ENCRYPTED"
    key_name = google_kms_crypto_key.main["cluster"].id
  }

  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account   = google_service_account.nodes.email
      oauth_scopes      = ["https://www.googleapis.com/auth/cloud-platform"] # what it may do, IAM says
      boot_disk_kms_key = google_kms_crypto_key.main["cluster"].id
    }
  }

  node_pool_auto_config {
    node_kubelet_config {
      insecure_kubelet_readonly_port_enabled = "FALSE"
    }
  }

  release_channel {
    channel = "REGULAR"
  }

  maintenance_policy {
    recurring_window { # nights of Saturday and Sunday: 48 hours in 32 days are the least that GKE takes
      start_time = "2026-01-03T00:00:00Z"
      end_time   = "2026-01-03T06:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }

  security_posture_config {
    mode               = "BASIC"
    vulnerability_mode = "VULNERABILITY_DISABLED" # the registry scans images, whether they run or not
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS", "APISERVER"]
  }

  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS", "POD", "DEPLOYMENT", "HPA"]

    managed_prometheus {
      enabled = true
    }
  }

  resource_labels = local.labels

  depends_on = [
    google_kms_crypto_key_iam_member.agent,
    google_kms_crypto_key_iam_member.disks,
    google_project_iam_member.nodes,
  ]
}
