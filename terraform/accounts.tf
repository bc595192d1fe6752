# One service account for each service, workload, job and agent. None has a key.

resource "google_service_account" "main" {
  for_each = merge(
    { for name in keys(local.services) : name => "Service ${name}" },
    { for name in keys(local.workloads) : name => "Workload ${name}" },
    { for name in local.job_accounts : name => "Jobs of ${name}" },
    local.agents,
  )

  account_id   = "dc-${each.key}" # at least six characters: `auth` alone is too short
  display_name = each.value

  depends_on = [google_project_service.main]
}
