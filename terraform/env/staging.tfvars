environment = "staging"
project     = "dev-context-staging"
domain      = "api.staging.example.com"

database_tier        = "db-custom-2-7680"
database_maintenance = "canary" # a week before production
cache_node           = "SHARED_CORE_NANO"
cache_replicas       = 0

session_endpoint_zones = ["europe-west1-b", "europe-west1-c", "europe-west1-d"]
