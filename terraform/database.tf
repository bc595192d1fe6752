# PostgreSQL on Cloud SQL, in the database block of the network: private address, TLS, log-in as an IAM account.

locals {
  database_name = "context"
  database_flags = {
    "cloudsql.iam_authentication" = "on"
    "max_connections"             = tostring(local.catalog.database.max_connections)
  }
}

resource "google_sql_database_instance" "main" {
  name                = "main"
  region              = var.region
  database_version    = "POSTGRES_18"
  encryption_key_name = google_kms_crypto_key.main["database"].id
  deletion_protection = true

  settings {
    edition                     = var.database_edition
    tier                        = var.database_tier
    availability_type           = var.database_availability
    deletion_protection_enabled = true
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled       = false
      private_network    = google_compute_network.main.id
      allocated_ip_range = google_compute_global_address.database.name
      ssl_mode           = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    }

    dynamic "database_flags" {
      for_each = local.database_flags
      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_service_networking_connection.database]
}

resource "google_sql_database" "main" {
  name     = local.database_name
  instance = google_sql_database_instance.main.name
}

# One login per service; what it may do comes from the role that migrations.provision grants to it.
resource "google_sql_user" "main" {
  for_each = local.logins

  name     = trimsuffix(google_service_account.main[each.key].email, ".gserviceaccount.com")
  instance = google_sql_database_instance.main.name
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"
}
