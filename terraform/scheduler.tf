# The jobs of Cloud Scheduler, as local/schedule.yaml describes them: unix-cron in UTC, each with an identity token.

locals {
  schedule = { for job in yamldecode(file("${path.module}/../local/schedule.yaml")) : job.name => job }
}

resource "google_cloud_scheduler_job" "main" {
  for_each = { for name, job in local.schedule : name => job if local.serving }

  name             = each.key
  region           = var.region
  description      = "${each.value.service}: ${each.value.path}"
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.attempt_deadline}s"

  retry_config {
    retry_count          = each.value.retry_count
    min_backoff_duration = "${each.value.min_backoff}s"
  }

  http_target {
    http_method = "POST"
    uri         = "${local.run_urls[each.value.service]}${each.value.path}"

    oidc_token {
      service_account_email = google_service_account.main["scheduler"].email
      audience              = local.run_urls[each.value.service]
    }
  }

  depends_on = [google_cloud_run_v2_service.main]
}
