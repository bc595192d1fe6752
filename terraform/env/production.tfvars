environment = "production"
project     = "dev-context-production"
domain      = "api.example.com"
image       = "europe-west1-docker.pkg.dev/dev-context-production/dev-context/dev-context@sha256:0000000000000000000000000000000000000000000000000000000000000000"

source_repository = "projects/dev-context-production/locations/europe-west1/connections/github/repositories/dev-context"
promoted_from     = "dev-context-staging"
approvers         = ["group:approvers@example.com"]

database_tier          = "db-perf-optimized-N-4"
database_disk_gb       = 100
database_disk_limit_gb = 1000
replica_region         = "europe-west4"
cache_node             = "STANDARD_SMALL"

session_endpoint_zones = ["europe-west1-b", "europe-west1-c", "europe-west1-d"]

alert_mail      = "on-duty@example.com"
slack_channel   = "#security-incidents"
pagerduty       = true
billing_account = "000000-000000-000000"
monthly_budget  = 2300

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
