# Buckets. Where personal data lie nothing is kept that was deleted: no versions, no soft delete.

locals {
  buckets = {
    exports = { days = 7, retained_days = 0, locked = false }                # files of copies; retention removes them earlier
    ledger  = { days = 1096, retained_days = 1095, locked = false }          # of erasures: as long as the requests themselves
    sources = { days = 7, retained_days = 0, locked = false }                # of builds, and their logs
    anchors = { days = 401, retained_days = 400, locked = var.lock_anchors } # of the audit chains: longer than the events
  }
}

resource "google_storage_bucket" "main" {
  for_each = local.buckets

  name                        = "${var.project}-${each.key}"
  location                    = upper(var.region)
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  encryption {
    default_kms_key_name = google_kms_crypto_key.main["storage"].id
  }

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "retention_policy" {
    for_each = each.value.retained_days > 0 ? [each.value] : []
    content {
      retention_period = retention_policy.value.retained_days * 86400
      is_locked        = retention_policy.value.locked
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = each.value.days
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}
