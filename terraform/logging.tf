# Logs lie in two buckets of our own, under our key and in our region: `general` for 30 days, `security` for 90. The
# bucket _Default can have neither, so its sink leads to ours; nothing is kept in two places. Admin activity is in
# _Required, which Google keeps for 400 days whatever anybody sets.

locals {
  log_buckets = {
    general  = { days = 30, says = "What the services, the load balancer and the cluster say" }
    security = { days = 90, says = "Refusals, attacks and operators' acts, and who reached data past our services" }
  }

  # Our entries say so by this label (common/log.py); what Google records of access to data and of refusals is as much.
  security_logs = join(" OR ", [
    "labels.log=\"security\"",
    "log_id(\"cloudaudit.googleapis.com/data_access\")",
    "log_id(\"cloudaudit.googleapis.com/policy\")",
  ])
  required_logs = join(" OR ", [
    "log_id(\"cloudaudit.googleapis.com/activity\")",
    "log_id(\"cloudaudit.googleapis.com/system_event\")",
    "log_id(\"cloudaudit.googleapis.com/access_transparency\")",
  ])

  # Request logs of the load balancer, the gateway and Cloud Run tell the whole address. Links to unsubscribe,
  # receipts of erasures and the answers of identity providers carry their token in it, and whoever asks for the scope
  # of an incident an address: these requests stand in the services' own lines alone.
  addresses_with_tokens = "httpRequest.requestUrl=~\"[?&](token|code|state|receipt|ip)=\""

  # Who reaches data past our services. What changes a configuration is recorded for every API, in any case.
  # The re-scan after an erasure looks for the person in the logs, and a record of that would say for whom it looked.
  audited = {
    "cloudkms.googleapis.com"      = { types = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"], exempted = [] }
    "cloudsql.googleapis.com"      = { types = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"], exempted = [] } # pgaudit's records
    "iam.googleapis.com"           = { types = ["ADMIN_READ", "DATA_READ"], exempted = [] }               # tokens and signatures too
    "logging.googleapis.com"       = { types = ["DATA_READ"], exempted = [for name in local.watchers : google_service_account.main[name].member] }
    "secretmanager.googleapis.com" = { types = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"], exempted = [] }
    "storage.googleapis.com"       = { types = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"], exempted = [] }
  }
}

resource "google_logging_project_bucket_config" "general" {
  project        = var.project
  location       = var.region
  bucket_id      = "general"
  description    = local.log_buckets.general.says
  retention_days = local.log_buckets.general.days

  cmek_settings {
    kms_key_name = google_kms_crypto_key.main["logging"].id
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

resource "google_logging_project_bucket_config" "security" {
  project        = var.project
  location       = var.region
  bucket_id      = "security"
  description    = local.log_buckets.security.says
  retention_days = local.log_buckets.security.days

  cmek_settings {
    kms_key_name = google_kms_crypto_key.main["logging"].id
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

resource "google_logging_project_sink" "security" {
  name        = "security"
  description = local.log_buckets.security.says
  destination = "logging.googleapis.com/${google_logging_project_bucket_config.security.id}"
  filter      = local.security_logs
}

# Every project has this sink from its beginning; the provider takes it over instead of making another.
resource "google_logging_project_sink" "general" {
  name        = "_Default"
  description = local.log_buckets.general.says
  destination = "logging.googleapis.com/${google_logging_project_bucket_config.general.id}"
  filter      = "NOT (${local.required_logs})"

  exclusions {
    name        = "security"
    description = "Kept by the sink of that name"
    filter      = local.security_logs
  }

  exclusions {
    name        = "addresses-with-tokens"
    description = "Whoever reads the logs must not be able to use a link of somebody else"
    filter      = local.addresses_with_tokens
  }

  depends_on = [google_logging_project_sink.security] # nothing falls between the two
}

resource "google_project_iam_audit_config" "main" {
  for_each = local.audited

  project = var.project
  service = each.key

  dynamic "audit_log_config" {
    for_each = each.value.types
    content {
      log_type         = audit_log_config.value
      exempted_members = each.value.exempted
    }
  }
}
