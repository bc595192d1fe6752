environment = "production"
project     = "dev-context-production"
domain      = "api.example.com"
image       = "europe-west1-docker.pkg.dev/dev-context-production/dev-context/dev-context@sha256:0000000000000000000000000000000000000000000000000000000000000000"

database_tier = "db-perf-optimized-N-4"
