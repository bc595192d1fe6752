# The environment of functions and jobs: docs/settings.md says what each setting means, a test that each name is one.
# No secret stands here: secrets are files in SECRETS_DIR.

locals {
  secrets_dir = "/secrets"

  database_urls = { # an account logs in as itself
    for name in setunion(keys(local.logins), local.job_accounts) : name => join("", [
      "cloudsql://${google_sql_database_instance.main.connection_name}/${local.database_name}",
      "?user=dc-${name}@${var.project}.iam",
    ])
  }

  # What Terraform knows, and nobody says otherwise.
  settings = {
    PROJECT_ID        = var.project
    REGION            = var.region
    SECRETS_DIR       = local.secrets_dir
    PUBLIC_URL        = "https://${var.domain}"
    AUTH_URL          = local.run_urls["auth"]
    KMS_KEY           = google_kms_crypto_key.main["fields"].id
    TASKS_ACCOUNT     = google_service_account.main["tasks"].email
    WORKFLOWS_ACCOUNT = google_service_account.main["workflows"].email
    SCHEDULER_ACCOUNT = google_service_account.main["scheduler"].email
    ALERTS_ACCOUNT    = google_service_account.main["alerts"].email
    SECURITY_POLICY   = google_compute_security_policy.edge.name
    NEVER_BLOCKED     = join(",", concat(["${google_compute_address.nat.address}/32"], var.never_blocked))

    FAILED_LOG_INS_A_MINUTE = tostring(var.failed_log_ins_a_minute)
    EXPORT_BUCKET           = google_storage_bucket.main["exports"].name
    LEDGER_BUCKET           = google_storage_bucket.main["ledger"].name
    ANCHOR_BUCKET           = google_storage_bucket.main["anchors"].name
    VALKEY_URL              = "rediss://valkey.${var.environment}.dev-context.internal:6379"
    VALKEY_CA               = "${local.secrets_dir}/valkey-ca/latest"
    VALKEY_IAM              = "true"
  }

  # What differs from its default in every environment, and var.settings may change.
  preferred_settings = {
    JWT_ALGORITHM      = "RS256" # who verifies tokens cannot make any
    TELEMETRY_ENDPOINT = "https://telemetry.googleapis.com"
  }

  # Past the gateway nobody verifies identity tokens for us, nor moves the caller's own: docs/decisions/0025.
  past_gateway = { for name, service in local.services : name => local.edge_is_run && length(service.paths) > 0 }

  own_settings = {
    for name, service in local.services : name => {
      SERVICE                  = name
      SERVICE_URL              = local.run_urls[name]
      SERVICE_ACCOUNT          = google_service_account.main[name].email
      DATABASE_URL             = local.database_urls[name]
      DATABASE_POOL            = tostring(service.concurrency)
      GRANIAN_BLOCKING_THREADS = tostring(service.concurrency)
      PLATFORM_CHECKS_IDENTITY = tostring(!local.past_gateway[name])
      BEARER_HEADER            = local.past_gateway[name] ? "Authorization" : "X-Forwarded-Authorization"
    }
  }
  service_settings = {
    for name, own in local.own_settings : name => merge(local.preferred_settings, var.settings, local.settings, own)
  }

  # A job has the settings of the service whose account it shares, or else of none; its database is its account's.
  job_settings = {
    for name, job in local.jobs : name => merge(
      local.preferred_settings,
      var.settings,
      local.settings,
      {
        SERVICE       = contains(keys(local.services), job.account) ? job.account : name
        SERVICE_URL   = "https://${var.domain}" # it has no address
        DATABASE_URL  = local.database_urls[job.account]
        LOGIN_PATTERN = "dc-{service}@${var.project}.iam"
      },
      can(job.database) ? { DATABASE_ADMIN_URL = local.database_urls[job.account] } : {},
    )
  }

  # What var.settings may name: what the page knows, but for what stands above.
  given_settings = setunion(
    keys(local.settings),
    flatten([for own in local.own_settings : keys(own)]),
    ["DATABASE_ADMIN_URL", "LOGIN_PATTERN"],
  )
  setting_names = flatten(regexall("(?m)^\\| `([A-Z0-9_]+)` \\|", file("${path.module}/../docs/settings.md")))
}
