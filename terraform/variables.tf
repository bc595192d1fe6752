# What differs between environments. What must be the same in all of them is no variable.

# The project

variable "environment" {
  description = "Name of the environment, as in env/<environment>.tfvars and sessions/k8s/<environment>."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment is staging or production."
  }
}

variable "project" {
  description = "Id of the Google Cloud project; each environment has one of its own."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is an id such as dev-context-staging, not a number and not a display name."
  }
}

variable "region" {
  description = "Where everything stands. Personal data stay in the European Union."
  type        = string
  default     = "europe-west1"

  validation {
    condition     = startswith(var.region, "europe-") && !contains(["europe-west2", "europe-west6"], var.region)
    error_message = "region is one inside the European Union: London (europe-west2) and Zurich (europe-west6) are outside."
  }
}

variable "domain" {
  description = "Host name of the API, e.g. api.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain is a host name in lower case, without https://."
  }
}

# The release

variable "image" {
  description = "The image of functions, jobs and sessions by digest. Null before the first one is built: no service is made then."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[a-z0-9.-]+/[a-z0-9/._-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image ends in @sha256: and 64 hexadecimal digits; a tag can be moved, a digest cannot."
  }
}

# The database

variable "database_edition" {
  description = "Edition of Cloud SQL: ENTERPRISE_PLUS, or ENTERPRISE for a small environment."
  type        = string
  default     = "ENTERPRISE_PLUS"
}

variable "database_tier" {
  description = "Machine of the database: db-perf-optimized-N-… under ENTERPRISE_PLUS, db-custom-… under ENTERPRISE."
  type        = string
}

variable "database_availability" {
  description = "REGIONAL (a standby in another zone) or ZONAL."
  type        = string
  default     = "REGIONAL"
}

# The network and the edge

variable "flow_sampling" {
  description = "Share of connections that the subnets' flow logs record, 0 to 1."
  type        = number
  default     = 0.5

  validation {
    condition     = var.flow_sampling > 0 && var.flow_sampling <= 1
    error_message = "flow_sampling is above 0 and at most 1: flow logs stay on."
  }
}

# Secrets

variable "secret_rotation_seconds" {
  description = "How long before a person is reminded to renew a secret that we cannot turn ourselves."
  type        = number
  default     = 7776000

  validation {
    condition     = var.secret_rotation_seconds >= 86400 && var.secret_rotation_seconds <= 7776000
    error_message = "secret_rotation_seconds is at least a day and at most 90 days."
  }
}
