# What Google tells us: a secret made by hand grew old, an alert fired, a budget was reached. No personal data.

resource "google_pubsub_topic" "main" {
  for_each = toset(["secret-rotation", "alerts", "budget"])

  name                       = each.key
  kms_key_name               = google_kms_crypto_key.main["pubsub"].id
  message_retention_duration = "604800s" # 7 days: a subscriber that was down reads on where it stopped

  message_storage_policy {
    allowed_persistence_regions = [var.region] # kept here; published from wherever Google's services run
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

# Each alert goes to functions/incidents, until it is taken; after a day nobody has to be blocked for it any more. Pub/Sub
# makes the tokens of the account by its agent's own role, as Cloud Tasks and Cloud Scheduler do.
resource "google_pubsub_subscription" "alerts" {
  for_each = toset(local.serving ? ["incidents"] : [])

  name                       = "alerts"
  topic                      = google_pubsub_topic.main["alerts"].id
  message_retention_duration = "86400s"
  ack_deadline_seconds       = local.services[each.key].timeout_seconds

  push_config {
    push_endpoint = "${local.run_urls[each.key]}/internal/alerts"

    oidc_token {
      service_account_email = google_service_account.main["alerts"].email
      audience              = local.run_urls[each.key]
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  expiration_policy {
    ttl = "" # never, however quiet it is
  }

  depends_on = [google_cloud_run_v2_service_iam_member.invoker]
}
