# PostgreSQL on Cloud SQL, in the database block of the network: private address, TLS with client certificates, and
# log-ins of IAM accounts alone. The database itself is made by `python -m migrations.apply` and not here: Cloud SQL's
# API would give it to cloudsqlsuperuser, with a locale of the machine's C library (docs/decisions/0027).

locals {
  database_name = "context"

  # What reaches the log must hold no personal data. No statement is ever logged, so no parameter of one is either
  # (Cloud SQL has no flag for log_parameter_max_length; its default for errors is 0 already), errors come without
  # details, and pgaudit writes what changes the schema and the roles, with every literal masked.
  # statement_timeout is no flag either: migrations.apply sets it on the database.
  database_flags = {
    "cloudsql.enable_pgaudit"             = "on"
    "cloudsql.iam_authentication"         = "on"
    "cloudsql.pgaudit_mask_literals"      = "on"
    "idle_in_transaction_session_timeout" = "60000" # ms
    "log_checkpoints"                     = "on"
    "log_connections"                     = "on"
    "log_disconnections"                  = "on"
    "log_duration"                        = "off"
    "log_error_verbosity"                 = "terse"
    "log_hostname"                        = "off"
    "log_lock_waits"                      = "on"
    "log_min_duration_statement"          = "-1"
    "log_min_error_statement"             = "panic"
    "log_min_messages"                    = "warning"
    "log_statement"                       = "none"
    "log_temp_files"                      = "0"
    "max_connections"                     = tostring(local.catalog.database.max_connections)
    "max_prepared_transactions"           = "0"
    "password_encryption"                 = "scram-sha-256" # pragma: allowlist secret
    "pgaudit.log"                         = "ddl,role"
    "pgaudit.log_parameter"               = "off"
  }

  database_plus    = startswith(var.database_tier, "db-perf-optimized-")
  database_edition = local.database_plus ? "ENTERPRISE_PLUS" : "ENTERPRISE"

  # Who logs in: each service and workload, and the accounts of those jobs that say so.
  database_logins = setunion(keys(local.logins), [for job in local.jobs : job.account if can(job.database)])
  database_admins = toset([for job in local.jobs : job.account if try(job.database, "") == "admin"])
}

resource "google_sql_database_instance" "main" {
  name                = var.database_instance
  region              = var.region
  database_version    = "POSTGRES_18"
  encryption_key_name = google_kms_crypto_key.main["database"].id
  deletion_protection = true # of Terraform; deletion_protection_enabled is that of Cloud SQL

  settings {
    edition                     = local.database_edition
    tier                        = var.database_tier
    availability_type           = var.database_availability
    activation_policy           = "ALWAYS"
    deletion_protection_enabled = true
    connector_enforcement       = "REQUIRED"
    data_api_access             = "DISALLOW_DATA_API" # it would be a way in from the internet
    disk_type                   = "PD_SSD"
    disk_size                   = var.database_disk_gb
    disk_autoresize             = true
    disk_autoresize_limit       = var.database_disk_limit_gb
    retain_backups_on_delete    = false # what was erased would stay in them
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled                                  = false
      private_network                               = google_compute_network.main.id
      allocated_ip_range                            = google_compute_global_address.database.name
      ssl_mode                                      = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
      server_ca_mode                                = "GOOGLE_MANAGED_INTERNAL_CA"
      enable_private_path_for_google_cloud_services = false
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "01:00"
      location                       = var.backup_location
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 7
        retention_unit   = "COUNT"
      }
    }

    final_backup_config {
      enabled        = true
      retention_days = 7
    }

    # Statements are shown with their literals taken out; ours have none, since every value is a parameter.
    insights_config {
      query_insights_enabled  = true
      query_string_length     = 1024
      query_plans_per_minute  = 5
      record_application_tags = false
      record_client_address   = false
    }

    maintenance_window {
      day          = 7 # Sunday
      hour         = 3
      update_track = var.database_maintenance
    }

    # Nobody has a password: IAM accounts log in. Should somebody be given one all the same, it is a good one.
    password_validation_policy {
      enable_password_policy      = true
      min_length                  = 20
      complexity                  = "COMPLEXITY_DEFAULT"
      reuse_interval              = 5
      disallow_username_substring = true
    }

    dynamic "data_cache_config" { # an option of Enterprise Plus: the working set fits into memory
      for_each = local.database_plus ? [false] : []
      content {
        data_cache_enabled = data_cache_config.value
      }
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
    ignore_changes  = [settings[0].disk_size] # it grows by itself
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_service_networking_connection.database]
}

# A login for each account. What it may do comes from the role that migrations.provision grants to it; the migrating
# job's alone is an administrator, as far as Cloud SQL knows any: CREATEROLE and CREATEDB, never a superuser.
resource "google_sql_user" "main" {
  for_each = local.database_logins

  name            = trimsuffix(google_service_account.main[each.key].email, ".gserviceaccount.com")
  instance        = google_sql_database_instance.main.name
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles  = contains(local.database_admins, each.key) ? ["cloudsqlsuperuser"] : null
  deletion_policy = "ABANDON" # PostgreSQL refuses to drop a role that still holds grants
}

# A copy in another region of the European Union, for the loss of a whole region. Promoting it is a decision of people
# (docs/runbooks/restore.md).
resource "google_sql_database_instance" "replica" {
  count = var.replica_region == null ? 0 : 1

  name                 = "replica"
  region               = var.replica_region
  database_version     = google_sql_database_instance.main.database_version
  master_instance_name = google_sql_database_instance.main.name
  instance_type        = "READ_REPLICA_INSTANCE"
  encryption_key_name  = google_kms_crypto_key.replica[0].id
  deletion_protection  = true

  settings {
    edition                     = local.database_edition
    tier                        = var.database_tier
    availability_type           = "ZONAL"
    deletion_protection_enabled = true
    connector_enforcement       = "REQUIRED"
    data_api_access             = "DISALLOW_DATA_API"
    disk_type                   = "PD_SSD"
    disk_autoresize             = true
    disk_autoresize_limit       = var.database_disk_limit_gb
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled       = false
      private_network    = google_compute_network.main.id
      allocated_ip_range = google_compute_global_address.database.name
      ssl_mode           = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
      server_ca_mode     = "GOOGLE_MANAGED_INTERNAL_CA"
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

  depends_on = [google_kms_crypto_key_iam_member.replica]
}
