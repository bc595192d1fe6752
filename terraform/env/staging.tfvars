environment = "staging"
project     = "dev-context-staging"
domain      = "api.staging.example.com"

database_edition = "ENTERPRISE"
database_tier    = "db-custom-2-7680"
