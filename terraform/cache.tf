# Valkey on Memorystore: counters and announcements. Nothing in it is the truth, so nothing of it is kept.

resource "google_memorystore_instance" "main" {
  instance_id = "main"
  location    = var.region
  mode        = "CLUSTER_DISABLED"
  shard_count = 1
  kms_key     = google_kms_crypto_key.main["cache"].id

  authorization_mode          = "IAM_AUTH"
  transit_encryption_mode     = "SERVER_AUTHENTICATION"
  deletion_protection_enabled = true

  depends_on = [google_kms_crypto_key_iam_member.agent]
}
