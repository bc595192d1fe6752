# The queues of Cloud Tasks, as local/queues.yaml describes them: the same rates and retries that the tests run with.

locals {
  queues = yamldecode(file("${path.module}/../local/queues.yaml")).queues
}

resource "google_cloud_tasks_queue" "main" {
  for_each = local.queues

  name     = each.key
  location = var.region

  rate_limits {
    max_dispatches_per_second = each.value.rate
    max_concurrent_dispatches = each.value.concurrency
  }

  retry_config {
    max_attempts  = each.value.max_attempts
    min_backoff   = "${each.value.min_backoff}s"
    max_backoff   = "${each.value.max_backoff}s"
    max_doublings = each.value.max_doublings
  }

  stackdriver_logging_config {
    sampling_ratio = 1 # names and outcomes, no bodies
  }

  depends_on = [google_project_service.main]
}
