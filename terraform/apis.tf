# The APIs of Google that are in use. Turning one off would break what stands on it, so nothing here ever does.

locals {
  apis = toset([
    "apigateway",
    "artifactregistry",
    "billingbudgets",
    "binaryauthorization",
    "certificatemanager",
    "cloudbuild",
    "cloudkms",
    "cloudresourcemanager",
    "cloudscheduler",
    "cloudtasks",
    "cloudtrace",
    "compute",
    "container",
    "containeranalysis",
    "containerscanning",
    "dns",
    "iam",
    "iamcredentials",
    "logging",
    "memorystore",
    "monitoring",
    "networkconnectivity",
    "pubsub",
    "recaptchaenterprise",
    "run",
    "secretmanager",
    "servicecontrol",
    "servicemanagement",
    "servicenetworking",
    "serviceusage",
    "sqladmin",
    "storage",
    "telemetry",
    "workflowexecutions",
    "workflows",
  ])
}

resource "google_project_service" "main" {
  for_each = local.apis

  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

data "google_project" "main" { # for its number, which is part of names that Google makes
  project_id = var.project

  depends_on = [google_project_service.main]
}
