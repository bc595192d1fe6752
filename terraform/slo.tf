# What people are promised, over 28 days, measured at the load balancer: 99.9 % of requests are answered without a fault
# of ours, and 99 % within a second. The streams of the session API last for hours, so their time says nothing.

locals {
  objective_days    = 28
  availability_goal = 0.999
  latency_goal      = 0.99
  latency_seconds   = 1
  burn_budget_faster = { # how many times faster than allowed, in both windows: the short one ends the alert soon
    fast = { rate = 14.4, long = "3600s", short = "300s" }
    slow = { rate = 6, long = "21600s", short = "1800s" }
  }
}

resource "google_monitoring_custom_service" "main" {
  service_id   = "api"
  display_name = "API"

  depends_on = [google_project_service.main]
}

resource "google_monitoring_slo" "availability" {
  service             = google_monitoring_custom_service.main.service_id
  slo_id              = "availability"
  display_name        = "99.9 % of requests are answered without a fault of ours"
  goal                = local.availability_goal
  rolling_period_days = local.objective_days

  request_based_sli {
    good_total_ratio {
      total_service_filter = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND ${local.balancer_resource}"
      bad_service_filter   = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND ${local.balancer_resource} AND metric.labels.response_code_class=500"
    }
  }
}

resource "google_monitoring_slo" "latency" {
  service             = google_monitoring_custom_service.main.service_id
  slo_id              = "latency"
  display_name        = "99 % of requests are answered within a second"
  goal                = local.latency_goal
  rolling_period_days = local.objective_days

  request_based_sli {
    distribution_cut {
      distribution_filter = "metric.type=\"loadbalancing.googleapis.com/https/total_latencies\" AND ${local.balancer_resource} AND resource.labels.backend_target_name!=\"sessions\""

      range {
        max = local.latency_seconds * 1000
      }
    }
  }
}

locals {
  burn_alerts = merge([
    for name, slo in { availability = google_monitoring_slo.availability, latency = google_monitoring_slo.latency } : {
      for speed, burn in local.burn_budget_faster : "${name}_burn_${speed}" => {
        title    = "The error budget of ${name} burns ${burn.rate} times too fast"
        severity = speed == "fast" ? (name == "availability" ? "CRITICAL" : "ERROR") : "WARNING"
        means    = speed == "fast" ? "In two days at this pace nothing of the 28 days' budget is left: ${slo.display_name}, and now they are not." : "In five days at this pace nothing of the 28 days' budget is left: ${slo.display_name}, and now they are not."
        first    = "Look which backend it is (`loadbalancing.googleapis.com/https/request_count` by `backend_target_name`), and whether a release began it: then go back."
        runbook  = "docs/runbooks/rollback.md"
        combiner = "AND"
        thresholds = [
          for window in [burn.long, burn.short] : {
            name   = "over ${window}"
            filter = "select_slo_burn_rate(\"${slo.name}\", \"${window}\")"
            above  = burn.rate
          }
        ]
      }
    }
  ]...)
}
