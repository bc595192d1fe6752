# Cloud Armor, before everything that the load balancer leads to. The first rule that matches decides, so the order is:
# incident, known addresses, countries, attacks, bots, rates. Limits of the service that shape this file: five
# subexpressions and 2048 characters a rule, ten addresses a rule, 64 characters of description, twenty rules with an
# expression a project unless Google raises the quota.
# Source: https://cloud.google.com/armor/docs/rules-language-reference, https://cloud.google.com/armor/quotas

locals {
  # OWASP's rule sets that fit an API in Python. Left out: methodenforcement (it knows no PATCH, PUT or DELETE), php and
  # java (we run neither), generic (its signatures of Ruby, Perl and template engines match prose).
  waf_sets = [
    ["sqli-v422-stable", "xss-v422-stable", "lfi-v422-stable", "rfi-v422-stable"],
    ["rce-v422-stable", "protocolattack-v422-stable", "scannerdetection-v422-stable", "sessionfixation-v422-stable"],
    ["nodejs-v422-stable", "cve-canary"],
  ]
  waf_expressions = [
    for sets in local.waf_sets :
    join(" || ", [for set in sets : "evaluatePreconfiguredWaf('${set}', {'sensitivity': 1})"])
  ]

  # Text that people write into JSON may look like an attack (a task "drop table …"), and the database and the pages are
  # safe by parameters and escaping. So what has a body is only watched: the log shows what a rule would have refused.
  waf_rules = merge(
    {
      for number, expression in local.waf_expressions : "waf-${number}" => {
        priority   = 3000 + number
        preview    = false
        expression = "request.method.matches('^(GET|HEAD|OPTIONS|DELETE)$') && (${expression})"
        about      = "OWASP at sensitivity 1, requests without a body"
      }
    },
    {
      for number, expression in local.waf_expressions : "waf-body-${number}" => {
        priority   = 3100 + number
        preview    = !var.waf_bodies
        expression = expression
        about      = "OWASP at sensitivity 1, JSON bodies too"
      }
    },
  )

  entrances = "request.method == 'POST' && request.path.matches('^/v1/auth/(register|login)/?$')"
  humane    = "token.recaptcha_action.valid && token.recaptcha_action.action.matches('^(register|login)$')"
  bot_rules = {
    bot-score = {
      priority   = 4000
      preview    = var.recaptcha == "preview"
      expression = "${local.entrances} && ${local.humane} && token.recaptcha_action.score < ${var.recaptcha_score}"
      about      = "Sign-up or log-in with a token of a likely bot"
    }
    bot-token = { # clients that are no browser have none
      priority   = 4001
      preview    = var.recaptcha != "required"
      expression = "${local.entrances} && !(${local.humane})"
      about      = "Sign-up or log-in without a valid token of it"
    }
  }

  optional_rules = {
    threats = { # Google's list of known bad addresses belongs to Cloud Armor Enterprise
      wanted     = var.armor_enterprise
      priority   = 1500
      expression = "evaluateThreatIntelligence('iplist-known-malicious-ips')"
      about      = "Addresses that Google knows as malicious"
    }
    regions = {
      wanted     = length(var.blocked_regions) > 0
      priority   = 2000
      expression = "origin.region_code.matches('^(${join("|", var.blocked_regions)})$')"
      about      = "Countries that are blocked"
    }
  }

  expression_rules = merge(
    { for name, rule in local.optional_rules : name => merge(rule, { preview = false }) if rule.wanted },
    local.waf_rules,
    local.bot_rules,
  )

  # Ten addresses are all that fit into a rule.
  blocked_addresses = { for number, some in chunklist(var.blocked_addresses, 10) : tostring(number) => some }
}

resource "google_compute_security_policy" "edge" {
  name        = "edge"
  description = "Everything that reaches the load balancer"
  type        = "CLOUD_ARMOR"

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable          = true
      rule_visibility = "STANDARD"
    }
  }

  advanced_options_config {
    json_parsing                 = "STANDARD"
    request_body_inspection_size = "64KB"
    log_level                    = "NORMAL" # VERBOSE would write what matched, text of people included
  }

  recaptcha_options_config {
    redirect_site_key = google_recaptcha_enterprise_key.challenge.name
  }

  depends_on = [google_project_service.main]

  # No rule stands in here: rules inside and rules beside a policy undo each other.
}

# The slot of the incident automation: it writes addresses (ten at most) and, into the description, until when; when
# that has come it writes the placeholder again. Terraform makes the rule and never looks at its content afterwards.
# Address groups would hold more, but belong to Cloud Armor Enterprise.
resource "google_compute_security_policy_rule" "incident" {
  security_policy = google_compute_security_policy.edge.name
  description     = "Incident automation: empty"
  priority        = 100
  action          = "deny(403)"

  match {
    versioned_expr = "SRC_IPS_V1"
    config {
      src_ip_ranges = ["192.0.2.0/32"] # an address of examples, RFC 5737: nobody
    }
  }

  lifecycle {
    ignore_changes = [match, description]
  }
}

resource "google_compute_security_policy_rule" "addresses" {
  for_each = local.blocked_addresses

  security_policy = google_compute_security_policy.edge.name
  description     = "Addresses of known bots"
  priority        = 1000 + tonumber(each.key)
  action          = "deny(403)"

  match {
    versioned_expr = "SRC_IPS_V1"
    config {
      src_ip_ranges = each.value
    }
  }
}

resource "google_compute_security_policy_rule" "main" {
  for_each = local.expression_rules

  security_policy = google_compute_security_policy.edge.name
  description     = each.value.about
  priority        = each.value.priority
  action          = "deny(403)"
  preview         = each.value.preview

  match {
    expr {
      expression = each.value.expression
    }

    dynamic "expr_options" {
      for_each = startswith(each.key, "bot-") ? [google_recaptcha_enterprise_key.action.name] : []
      content {
        recaptcha_options {
          action_token_site_keys = [expr_options.value]
        }
      }
    }
  }
}

# Pages for people, asked for faster than anybody reads: a browser gets the challenge and goes on, a script does not.
resource "google_compute_security_policy_rule" "challenge" {
  security_policy = google_compute_security_policy.edge.name
  description     = "Pages: challenge what is too fast"
  priority        = 5000
  action          = "throttle"

  match {
    expr {
      expression = "request.method == 'GET' && request.path.matches('^/(docs|verify-email|reset-password|accept-invitation|export|deletion)/?$')"
    }
  }

  rate_limit_options {
    conform_action = "allow"
    exceed_action  = "redirect"
    enforce_on_key = "IP"

    exceed_redirect_options {
      type = "GOOGLE_RECAPTCHA"
    }

    rate_limit_threshold {
      count        = 100
      interval_sec = 60
    }
  }
}

# The last one that is ever asked: it lets in what keeps the rate, so anything after it would never be seen.
resource "google_compute_security_policy_rule" "rate" {
  security_policy = google_compute_security_policy.edge.name
  description     = "1000 requests a minute from one address"
  priority        = 2147483646
  action          = "throttle"

  match {
    versioned_expr = "SRC_IPS_V1"
    config {
      src_ip_ranges = ["*"]
    }
  }

  rate_limit_options {
    conform_action = "allow"
    exceed_action  = "deny(429)"
    enforce_on_key = "IP"

    rate_limit_threshold {
      count        = 1000
      interval_sec = 60
    }
  }
}

# All that the incident automation (functions/incidents) needs. A security policy has no IAM of its own, so whoever gets
# this role gets it in the project, and this is the only policy there.
resource "google_project_iam_custom_role" "blocker" {
  role_id     = "armorBlocker"
  title       = "Cloud Armor blocker"
  description = "Change a rule of the security policy, and wait until it is in force"
  permissions = [
    "compute.globalOperations.get",
    "compute.securityPolicies.get",
    "compute.securityPolicies.update",
  ]

  depends_on = [google_project_service.main]
}

resource "google_project_iam_member" "blocker" {
  for_each = local.blockers

  project = var.project
  role    = google_project_iam_custom_role.blocker.id
  member  = google_service_account.main[each.key].member
}
