# reCAPTCHA for Cloud Armor: a page that signs somebody up or in brings an action token in X-Recaptcha-Token, which
# Armor reads by itself (armor.tf); the other key is for the page that Armor shows to a browser it doubts.

resource "google_recaptcha_enterprise_key" "action" {
  display_name = "Sign-up and log-in"

  web_settings {
    integration_type  = "SCORE"
    allow_all_domains = false
    allowed_domains   = local.recaptcha_domains
  }

  waf_settings {
    waf_service = "CA"
    waf_feature = "ACTION_TOKEN"
  }

  depends_on = [google_project_service.main]
}

resource "google_recaptcha_enterprise_key" "challenge" {
  display_name = "Challenge page"

  web_settings {
    integration_type  = "INVISIBLE"
    allow_all_domains = false
    allowed_domains   = [var.domain] # the load balancer itself shows it
  }

  waf_settings {
    waf_service = "CA"
    waf_feature = "CHALLENGE_PAGE"
  }

  depends_on = [google_project_service.main]
}

locals {
  recaptcha_domains = length(var.recaptcha_domains) == 0 ? [var.domain] : var.recaptcha_domains
}
