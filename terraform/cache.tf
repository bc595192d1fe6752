# Valkey on Memorystore: counters, announcements and the list of revoked log-ins. None of it is the truth, so none of it
# is kept: a lost instance costs a minute's counters.

resource "google_memorystore_instance" "main" {
  instance_id                 = "main"
  location                    = var.region
  mode                        = "CLUSTER_DISABLED"
  shard_count                 = 1 # all there is without cluster mode
  replica_count               = var.cache_replicas
  node_type                   = var.cache_node
  engine_version              = "VALKEY_9_0"
  kms_key                     = google_kms_crypto_key.main["cache"].id
  deletion_protection_enabled = true

  authorization_mode      = "IAM_AUTH"
  transit_encryption_mode = "SERVER_AUTHENTICATION"
  # An authority that certifies this instance and no other: our clients compare no name (VALKEY_CA in docs/settings.md).
  # The shared one certifies every instance of the region, those of strangers included.
  server_ca_mode = "GOOGLE_MANAGED_PER_INSTANCE_CA"

  # When memory ends, what would be forgotten next goes first: counters of the running window, long before the entries of
  # revoked log-ins. Refusing writes instead (noeviction) would lose those.
  engine_configs = {
    "maxmemory-policy" = "volatile-ttl"
  }

  persistence_config {
    mode = "DISABLED"
  }

  zone_distribution_config {
    mode = "MULTI_ZONE"
  }

  maintenance_policy {
    weekly_maintenance_window {
      day = "SUNDAY"
      start_time {
        hours   = 3
        minutes = 0
        seconds = 0
        nanos   = 0
      }
    }
  }

  desired_auto_created_endpoints {
    network    = google_compute_network.main.id
    project_id = var.project
  }

  depends_on = [
    google_kms_crypto_key_iam_member.agent,
    google_network_connectivity_service_connection_policy.cache,
  ]
}

locals {
  # The other endpoint is the replicas', which take no writes.
  valkey_address = one([
    for endpoint in flatten([
      for group in google_memorystore_instance.main.endpoints : [
        for connection in group.connections : connection.psc_auto_connection
      ]
    ]) : endpoint.ip_address if endpoint.connection_type == "CONNECTION_TYPE_PRIMARY"
  ])
}

# Certificates that anybody may know; in Secret Manager because that is where functions and pods read files from.
resource "google_secret_manager_secret_version" "valkey_ca" {
  secret = google_secret_manager_secret.main["valkey-ca"].id
  secret_data = join("\n", flatten([
    for authority in google_memorystore_instance.main.managed_server_ca : [
      for chain in authority.ca_certs : chain.certificates
    ]
  ]))

  lifecycle {
    create_before_destroy = true # `latest` must always name a version that can be read
  }
}
