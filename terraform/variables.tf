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
  description = "Where everything stands. Personal data stay in the European Union. API Gateway is not in all of its regions."
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

variable "services" {
  description = "False makes the jobs of the image and no service: before the first secrets and the schema are there (README.md)."
  type        = bool
  default     = true
}

variable "source_repository" {
  description = "This repository as Cloud Build is connected to it (docs/delivery.md); null makes no trigger."
  type        = string
  default     = null

  validation {
    condition = var.source_repository == null || can(regex(
      "^projects/[a-z0-9-]+/locations/[a-z0-9-]+/connections/[^/]+/repositories/[^/]+$", var.source_repository
    ))
    error_message = "source_repository is projects/P/locations/R/connections/C/repositories/N."
  }
}

variable "promoted_from" {
  description = "In production the project of staging, whose releases ask here for their promotion; null for an environment that builds."
  type        = string
  default     = null
}

variable "promoted_to" {
  description = "In staging the project of production, once its accounts are there; null for none."
  type        = string
  default     = null
}

variable "approvers" {
  description = "Who may approve a promotion, e.g. group:approvers@example.com; beside them only owners."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.approvers : can(regex("^(group|user|serviceAccount):[^@]+@", member))])
    error_message = "approvers are groups, users or service accounts; never allUsers or a whole domain."
  }
}

variable "not_yet" {
  description = "New services of the catalog that are not made yet, while their keys and roles are (docs/runbooks/deploy.md). Never one that is there."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.not_yet : contains(keys(local.services), name)])
    error_message = "not_yet names services of functions/catalog.yaml."
  }
}

# Functions and jobs

variable "settings" {
  description = "Settings of docs/settings.md that Terraform neither knows nor leaves at their default, for every service and job."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : contains(local.setting_names, name)])
    error_message = "settings has a name that docs/settings.md does not know."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : !contains(local.given_settings, name)])
    error_message = "settings has a name whose value Terraform knows itself: terraform/settings.tf."
  }
}

variable "warm" {
  description = "Whether the services that people wait for keep an instance running, as functions/catalog.yaml says."
  type        = bool
  default     = true
}

variable "operators" {
  description = "Who may start the operator's jobs (docs/operator.md), e.g. group:operators@example.com."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(group|user|serviceAccount):[^@]+@", member))])
    error_message = "operators are groups, users or service accounts; never allUsers or a whole domain."
  }
}

# The database

variable "database_instance" {
  description = "Name of the Cloud SQL instance; another one after a restore into a clone (docs/runbooks/restore.md)."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,60}[a-z0-9])?$", var.database_instance))
    error_message = "database_instance is a name in lower case, such as main or main-20260131."
  }
}

variable "database_tier" {
  description = "Machine of the database: db-perf-optimized-N-2 and up makes it Enterprise Plus, db-custom-CPUS-MB Enterprise."
  type        = string

  validation {
    condition     = can(regex("^db-(perf-optimized-N-[0-9]+|custom-[0-9]+-[0-9]+)$", var.database_tier))
    error_message = "database_tier is db-perf-optimized-N-… or db-custom-CPUS-MB; shared cores have no service level."
  }
}

variable "database_availability" {
  description = "REGIONAL has a standby in another zone; ZONAL is for trials."
  type        = string
  default     = "REGIONAL"

  validation {
    condition     = contains(["REGIONAL", "ZONAL"], var.database_availability)
    error_message = "database_availability is REGIONAL or ZONAL."
  }
}

variable "database_disk_gb" {
  description = "Size of the disk at first; it grows by itself."
  type        = number
  default     = 20

  validation {
    condition     = var.database_disk_gb >= 10
    error_message = "database_disk_gb is at least 10."
  }
}

variable "database_disk_limit_gb" {
  description = "Where the disk stops growing, so that a fault does not cost without end."
  type        = number
  default     = 200
}

variable "database_maintenance" {
  description = "When Google updates the database: canary is first, stable a week later, week5 another four."
  type        = string
  default     = "stable"

  validation {
    condition     = contains(["canary", "stable", "week5"], var.database_maintenance)
    error_message = "database_maintenance is canary, stable or week5."
  }
}

variable "backup_location" {
  description = "Where backups stand: eu (several regions of the European Union) or one region of it."
  type        = string
  default     = "eu"

  validation {
    condition = (
      var.backup_location == "eu" ||
      startswith(var.backup_location, "europe-") && !contains(["europe-west2", "europe-west6"], var.backup_location)
    )
    error_message = "Backups stay in the European Union: eu, or a region such as europe-west4."
  }
}

variable "replica_region" {
  description = "Another region of the European Union for a copy of the database; null for none."
  type        = string
  default     = null

  validation {
    condition = var.replica_region == null || (
      can(regex("^europe-", var.replica_region)) &&
      !contains(["europe-west2", "europe-west6", var.region], coalesce(var.replica_region, "none"))
    )
    error_message = "replica_region is a region inside the European Union other than region."
  }
}

# Buckets

variable "lock_anchors" {
  description = "Lock the retention of the audit chains' anchors for good. False is for a project of trials alone: a locked bucket outlives it by 400 days."
  type        = bool
  default     = true
}

# The cache

variable "cache_node" {
  description = "Size of a Valkey node: SHARED_CORE_NANO for trials, STANDARD_SMALL (6.5 GB), HIGHMEM_MEDIUM (13 GB) …"
  type        = string

  validation {
    condition = contains(
      ["SHARED_CORE_NANO", "STANDARD_SMALL", "HIGHMEM_MEDIUM", "HIGHMEM_XLARGE"], var.cache_node
    )
    error_message = "cache_node is SHARED_CORE_NANO, STANDARD_SMALL, HIGHMEM_MEDIUM or HIGHMEM_XLARGE."
  }
}

variable "cache_replicas" {
  description = "Replicas of the Valkey node in other zones; 0 means that its loss is felt for minutes."
  type        = number
  default     = 1

  validation {
    condition     = contains([0, 1, 2, 3, 4, 5], var.cache_replicas)
    error_message = "cache_replicas is 0 to 5."
  }
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

variable "dns_zone" {
  description = "Name of a public zone of this project's Cloud DNS that holds the domain; null if its records are made elsewhere."
  type        = string
  default     = null
}

variable "edge" {
  description = "What stands behind the load balancer: gateway (API Gateway), or run (Cloud Run itself, docs/decisions/0025)."
  type        = string
  default     = "gateway"

  validation {
    condition     = contains(["gateway", "run"], var.edge)
    error_message = "edge is gateway or run."
  }
}

variable "session_endpoint_zones" {
  description = "Zones with an endpoint group of the session API: those of README.md, step 4. Empty before there are any."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for zone in var.session_endpoint_zones : startswith(zone, "${var.region}-")])
    error_message = "session_endpoint_zones are zones of the region, e.g. europe-west1-b."
  }
}

variable "maintenance" {
  description = "Whether the load balancer answers 503 to everything and passes nothing on (docs/runbooks/restore.md)."
  type        = bool
  default     = false
}

variable "waf_bodies" {
  description = "Whether the WAF refuses requests for what their body says, instead of only noting them. First see what it notes."
  type        = bool
  default     = false
}

variable "armor_enterprise" {
  description = "Whether the project has Cloud Armor Enterprise: Google's list of malicious addresses is then refused."
  type        = bool
  default     = false
}

variable "blocked_regions" {
  description = "Countries that are refused, as ISO 3166-1 alpha-2 codes."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for code in var.blocked_regions : can(regex("^[A-Z]{2}$", code))])
    error_message = "blocked_regions are codes of two capital letters."
  }
}

variable "blocked_addresses" {
  description = "Addresses and ranges of known bots that are refused for good; what is blocked for a while belongs to the incident rule."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.blocked_addresses) <= 100 && alltrue([for range in var.blocked_addresses : can(cidrhost(range, 0))])
    error_message = "blocked_addresses are at most 100 ranges such as 203.0.113.7/32."
  }
}

variable "never_blocked" {
  description = "Networks that no alert blocks, in CIDR form: offices, partners, monitoring. Our own address is among them anyway."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.never_blocked : can(cidrhost(range, 0)) && !can(regex("(^|[.])0[0-9]", range)) && try(tonumber(split("/", range)[1]) >= 8, false)])
    error_message = "never_blocked are ranges such as 203.0.113.7/32, without leading zeros, /8 at the widest."
  }
}

variable "recaptcha" {
  description = "Sign-up and log-in: preview notes only, score refuses tokens of likely bots, required refuses requests without a token too."
  type        = string
  default     = "preview"

  validation {
    condition     = contains(["preview", "score", "required"], var.recaptcha)
    error_message = "recaptcha is preview, score or required."
  }
}

variable "recaptcha_score" {
  description = "Tokens below this score are a bot's, 0 to 1."
  type        = number
  default     = 0.3

  validation {
    condition     = var.recaptcha_score >= 0 && var.recaptcha_score <= 1
    error_message = "recaptcha_score is 0 to 1."
  }
}

variable "recaptcha_domains" {
  description = "Domains of the pages that sign people up and in; the API's own if empty."
  type        = list(string)
  default     = []
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

# The cluster

variable "trusted_images" {
  description = "Images that run in the cluster without our attestation, by digest alone: External Secrets Operator."
  type        = list(string)
  default     = ["ghcr.io/external-secrets/external-secrets@sha256:*"]

  validation {
    condition     = alltrue([for pattern in var.trusted_images : can(regex("^[a-z0-9.-]+\\.[a-z]+/[a-z0-9/._-]+@sha256:([*]|[0-9a-f]{64})$", pattern))])
    error_message = "An image that nobody attests is trusted by its whole name and its digest, never by a tag: …@sha256:…"
  }
}

# Alerts and costs

variable "alert_mail" {
  description = "Where alerts go by mail, best a list of those on duty; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.alert_mail == null || can(regex("^[^@ ]+@[^@ ]+\\.[a-z]+$", var.alert_mail))
    error_message = "alert_mail is an address such as on-duty@example.com."
  }
}

variable "slack_channel" {
  description = "Slack channel for alerts, e.g. #security-incidents; its token is the secret slack-token. Null for none."
  type        = string
  default     = null

  validation {
    condition     = var.slack_channel == null || can(regex("^#[a-z0-9_-]+$", var.slack_channel))
    error_message = "slack_channel begins with #."
  }
}

variable "pagerduty" {
  description = "Whether alerts that cannot wait go to PagerDuty; the key of its service is the secret pagerduty-key."
  type        = bool
  default     = false
}

variable "channel_keys" {
  description = "Another number sends the newest slack-token and pagerduty-key to Monitoring: raise it when you renewed one."
  type        = string
  default     = "1"
}

variable "failed_log_ins_a_minute" {
  description = "More failed log-ins than this in a minute, of everybody together, raise an alert."
  type        = number
  default     = 5

  validation {
    condition     = var.failed_log_ins_a_minute >= 1
    error_message = "failed_log_ins_a_minute is at least 1."
  }
}

variable "billing_account" {
  description = "Billing account of the project, for its budget (XXXXXX-XXXXXX-XXXXXX); null for none."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}(-[0-9A-F]{6}){2}$", var.billing_account))
    error_message = "billing_account is three groups of six hexadecimal digits."
  }
}

variable "monthly_budget" {
  description = "What a month may cost, in the currency of the billing account; nothing is switched off when it is spent."
  type        = number

  validation {
    condition     = var.monthly_budget > 0 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget is a whole number above 0."
  }
}
