# The workflows, from the very files that the local stand-in executes.

locals {
  workflows = toset([for file in fileset("${path.module}/../workflows", "*.yaml") : trimsuffix(file, ".yaml")])

  # EXPORTS_JOBS_URL and the like: each service that the workflows may call.
  workflow_urls = {
    for name, service in local.services : "${upper(replace(name, "-", "_"))}_URL" => local.run_urls[name]
    if contains(service.invokers, "workflows")
  }
}

resource "google_workflows_workflow" "main" {
  for_each = local.workflows

  name                    = each.key
  region                  = var.region
  description             = "workflows/${each.key}.yaml"
  service_account         = google_service_account.main["workflows"].id
  source_contents         = file("${path.module}/../workflows/${each.key}.yaml")
  user_env_vars           = local.workflow_urls
  call_log_level          = "LOG_ERRORS_ONLY"
  execution_history_level = "EXECUTION_HISTORY_BASIC"
  crypto_key_name         = google_kms_crypto_key.main["workflows"].id
  deletion_protection     = true

  depends_on = [google_project_service.main, google_kms_crypto_key_iam_member.agent]
}
