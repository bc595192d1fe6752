environment = "staging"
project     = "dev-context-staging"
domain      = "api.staging.example.com"
