# Asked from outside, through everything that a client goes through: name, certificate, load balancer, gateway, function.

locals {
  uptime_checks = {
    alive = { path = "/health/", says = "ok" }
    ready = { path = "/health/ready", says = "ready" } # the database and the cache answer
  }
}

resource "google_monitoring_uptime_check_config" "main" {
  for_each = { for name, check in local.uptime_checks : name => check if local.serving }

  display_name       = "API ${each.key}"
  period             = "60s"
  timeout            = "10s"
  checker_type       = "STATIC_IP_CHECKERS"
  selected_regions   = ["EUROPE", "USA", "ASIA_PACIFIC"] # three at least
  log_check_failures = true

  http_check {
    path         = each.value.path
    port         = 443
    use_ssl      = true
    validate_ssl = true

    accepted_response_status_codes {
      status_value = 200
    }
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project
      host       = var.domain
    }
  }

  content_matchers {
    matcher = "MATCHES_JSON_PATH"
    content = "\"${each.value.says}\""

    json_path_matcher {
      json_path    = "$.status"
      json_matcher = "EXACT_MATCH"
    }
  }

  depends_on = [google_project_service.main]
}
