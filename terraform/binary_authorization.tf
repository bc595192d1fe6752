# What runs was built by our own pipeline: GKE and Cloud Run refuse an image that nobody has attested. The pipeline signs
# the digest once every check has passed; the key never leaves Cloud KMS.

resource "google_kms_crypto_key" "attestor" {
  name                       = "attestor"
  key_ring                   = google_kms_key_ring.main.id
  purpose                    = "ASYMMETRIC_SIGN" # Cloud KMS turns no asymmetric key by itself
  destroy_scheduled_duration = "${local.kms_destroy_seconds}s"

  version_template {
    algorithm        = "EC_SIGN_P256_SHA256"
    protection_level = "HSM"
  }

  lifecycle {
    prevent_destroy = true
  }
}

data "google_kms_crypto_key_version" "attestor" {
  crypto_key = google_kms_crypto_key.attestor.id
}

resource "google_container_analysis_note" "built" {
  name = "built"

  attestation_authority {
    hint {
      human_readable_name = "Built and checked by the pipeline"
    }
  }

  depends_on = [google_project_service.main]
}

resource "google_binary_authorization_attestor" "built" {
  name = "built"

  attestation_authority_note {
    note_reference = google_container_analysis_note.built.name

    public_keys {
      id = data.google_kms_crypto_key_version.attestor.id

      pkix_public_key {
        public_key_pem      = data.google_kms_crypto_key_version.attestor.public_key[0].pem
        signature_algorithm = data.google_kms_crypto_key_version.attestor.public_key[0].algorithm
      }
    }
  }
}

resource "google_binary_authorization_policy" "main" {
  description                   = "Attested images alone, beside Google's own system images"
  global_policy_evaluation_mode = "ENABLE"

  default_admission_rule {
    evaluation_mode         = "REQUIRE_ATTESTATION"
    enforcement_mode        = "ENFORCED_BLOCK_AND_AUDIT_LOG"
    require_attestations_by = [google_binary_authorization_attestor.built.name]
  }

  dynamic "admission_whitelist_patterns" {
    for_each = var.trusted_images

    content {
      name_pattern = admission_whitelist_patterns.value
    }
  }
}
