# functions/catalog.yaml is the one list of what runs; everything below is computed from it.

locals {
  catalog   = yamldecode(file("${path.module}/../functions/catalog.yaml"))
  services  = local.catalog.services  # Cloud Run services
  workloads = local.catalog.workloads # on GKE
  logins    = merge(local.services, local.workloads)

  agents = { # accounts that call, and run nothing of ours
    gateway   = "API Gateway, towards Cloud Run"
    tasks     = "Cloud Tasks, towards Workflows and auth"
    workflows = "Workflows, towards the job services"
    scheduler = "Cloud Scheduler, towards retention and keys"
  }

  labels = {
    app         = "dev-context"
    environment = var.environment
  }
}
