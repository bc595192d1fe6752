# One service account for each service, workload, job and agent. None has a key.

resource "google_service_account" "main" {
  for_each = merge(
    { for name in keys(local.logins) : name => "Service ${name}" },
    local.agents,
  )

  account_id   = "dc-${each.key}" # at least six characters: `auth` alone is too short
  display_name = each.value
}
