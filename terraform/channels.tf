# Who hears of an alert. Mail and the topic at once; Slack and PagerDuty once their keys are in Secret Manager, where a
# person enters them (docs/keys.md). The keys are read while Terraform runs and stand in no plan and no state.

locals {
  channels = merge(
    var.alert_mail == null ? {} : {
      email = { type = "email", says = "Who is on duty, by mail", labels = { email_address = var.alert_mail } }
    },
    {
      pubsub = { type = "pubsub", says = "Programs: blocking an address, opening a ticket", labels = { topic = google_pubsub_topic.main["alerts"].id } }
    },
    var.slack_channel == null || !local.serving ? {} : {
      slack = { type = "slack", says = "Everybody, in ${var.slack_channel}", labels = { channel_name = var.slack_channel } }
    },
    !var.pagerduty || !local.serving ? {} : {
      pagerduty = { type = "pagerduty", says = "Who is on call, for what cannot wait", labels = {} }
    },
  )
  channel_secrets = { slack = "slack-token", pagerduty = "pagerduty-key" }
}

ephemeral "google_secret_manager_secret_version" "channel" {
  for_each = { for name, id in local.channel_secrets : name => id if contains(keys(local.channels), name) }

  secret = google_secret_manager_secret.main[each.value].secret_id
}

resource "google_monitoring_notification_channel" "main" {
  for_each = local.channels

  type         = each.value.type
  display_name = each.key
  description  = each.value.says
  labels       = each.value.labels
  force_delete = false # a channel that alerts still use stays

  dynamic "sensitive_labels" {
    for_each = each.key == "slack" ? [1] : []
    content {
      auth_token_wo         = ephemeral.google_secret_manager_secret_version.channel["slack"].secret_data
      auth_token_wo_version = var.channel_keys
    }
  }

  dynamic "sensitive_labels" {
    for_each = each.key == "pagerduty" ? [1] : []
    content {
      service_key_wo         = ephemeral.google_secret_manager_secret_version.channel["pagerduty"].secret_data
      service_key_wo_version = var.channel_keys
    }
  }

  depends_on = [google_project_service.main, google_pubsub_topic_iam_member.alerts]
}

# Monitoring's agent puts alerts into their topic.
resource "google_project_service_identity" "monitoring" {
  provider = google-beta

  service = "monitoring.googleapis.com"

  depends_on = [google_project_service.main]
}

resource "google_pubsub_topic_iam_member" "alerts" {
  topic  = google_pubsub_topic.main["alerts"].id
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.monitoring.member
}
