# functions/catalog.yaml is the one list of what runs; everything below is computed from it.

locals {
  catalog   = yamldecode(file("${path.module}/../functions/catalog.yaml"))
  services  = local.catalog.services  # Cloud Run services
  workloads = local.catalog.workloads # on GKE
  jobs      = local.catalog.jobs      # Cloud Run jobs
  logins    = merge(local.services, local.workloads)

  # Accounts that are no service's: a job has its own, several share one, or it has a service's.
  job_accounts = toset([for job in local.jobs : job.account if !contains(keys(local.logins), job.account)])

  agents = { # accounts that call, and run nothing of ours
    gateway   = "API Gateway, towards Cloud Run"
    tasks     = "Cloud Tasks, towards Workflows and auth"
    workflows = "Workflows, towards the job services"
    scheduler = "Cloud Scheduler, towards retention, keys and incidents"
    alerts    = "Pub/Sub, towards incidents, with each alert"
  }

  # Jobs come with the first image, services once the jobs have made secrets and schema: README.md.
  serving           = var.image != null && var.services
  deployed_services = { for name, service in local.services : name => service if local.serving && !contains(var.not_yet, name) }
  deployed_jobs     = { for name, job in local.jobs : name => job if var.image != null }

  # Cloud Run derives this address from names and number alone, so services can know each other's, and their own,
  # before any of them exists. Whoever calls one uses it as address and as audience.
  run_urls = {
    for name in keys(local.services) : name => "https://${name}-${data.google_project.main.number}.${var.region}.run.app"
  }

  labels = {
    app         = "dev-context"
    environment = var.environment
  }
}
