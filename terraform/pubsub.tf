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
