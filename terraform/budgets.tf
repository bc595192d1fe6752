# What a month may cost. A budget stops nothing: it tells, by mail and in a topic, early enough to look why.

resource "google_billing_budget" "main" {
  count = var.billing_account == null ? 0 : 1

  billing_account = var.billing_account
  display_name    = "dev-context ${var.environment}"

  budget_filter {
    projects               = ["projects/${data.google_project.main.number}"]
    calendar_period        = "MONTH"
    credit_types_treatment = "INCLUDE_ALL_CREDITS"
  }

  amount {
    specified_amount { # in the currency of the billing account
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.8, 1, 1.5]
    content {
      threshold_percent = threshold_rules.value
      spend_basis       = "CURRENT_SPEND"
    }
  }

  threshold_rules { # in the first days of a month that goes on like this
    threshold_percent = 1.2
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    pubsub_topic                     = google_pubsub_topic.main["budget"].id
    schema_version                   = "1.0"
    monitoring_notification_channels = [for name, channel in google_monitoring_notification_channel.main : channel.id if name == "email"]
    disable_default_iam_recipients   = false # the administrators of the billing account hear of it too
  }

  depends_on = [google_project_service.main, google_pubsub_topic_iam_member.budget]
}

# Google's account for the messages of all budgets.
# Source: https://cloud.google.com/billing/docs/how-to/budgets-programmatic-notifications
resource "google_pubsub_topic_iam_member" "budget" {
  topic  = google_pubsub_topic.main["budget"].id
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:billing-budget-alert@system.gserviceaccount.com"
}
