environment = "staging"
project     = "dev-context-staging"
domain      = "api.staging.example.com"
image       = "europe-west1-docker.pkg.dev/dev-context-staging/dev-context/dev-context@sha256:0000000000000000000000000000000000000000000000000000000000000000"

source_repository = "projects/dev-context-staging/locations/europe-west1/connections/github/repositories/dev-context"
promoted_to       = "dev-context-production"

database_tier        = "db-custom-2-7680"
database_maintenance = "canary" # a week before production
cache_node           = "SHARED_CORE_NANO"
cache_replicas       = 0

session_endpoint_zones = ["europe-west1-b", "europe-west1-c"]

alert_mail              = "on-duty@example.com"
slack_channel           = "#staging"
failed_log_ins_a_minute = 50 # tests fail to log in all day
billing_account         = "000000-000000-000000"
monthly_budget          = 650

settings = { # docs/settings.md
  MAIL_FROM             = "no-reply@example.com"
  MAIL_PROVIDER         = "Example Mail Ltd, Ireland"
  OPERATOR_CONTACT      = "1 Example Street, Dublin, privacy@example.com"
  OPERATOR_NAME         = "Example Ltd"
  DPO_CONTACT           = "dpo@example.com"
  PRIVACY_MAIL          = "dpo@example.com"
  SECURITY_CONTACT      = "security@example.com"
  SMTP_URL              = "smtps://mail.example.com:465"
  SUPERVISORY_AUTHORITY = "Data Protection Commission, Dublin"
}

warm = false # the first request after a quiet hour waits for a start
