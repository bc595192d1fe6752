# The one way in: a global load balancer at Google's edge, Cloud Armor in front of everything it leads to.

locals {
  edge_is_run = var.edge == "run" # straight to Cloud Run, past API Gateway: docs/decisions/0025

  public_services = { for name, service in local.deployed_services : name => service if length(service.paths) > 0 }
  run_backends    = { for name, service in local.public_services : name => service if local.edge_is_run }
  session_groups  = toset(var.session_endpoint_zones)
  session_paths   = flatten([for path in local.workloads.sessions.paths : [path, "${path}/*"]])

  # The load balancer writes these over what a client sent under the same name, in any case of letters.
  # Source: https://cloud.google.com/load-balancing/docs/https/custom-headers
  # The newest line of the secret counts: while the key changes there are two, the new one last (docs/keys.md).
  # So the value stands in Terraform's state, the only secret that does: no attribute of a backend service is write-only.
  edge_key = join("", [
    for version in data.google_secret_manager_secret_version.edge_key :
    reverse(split("\n", trimspace(version.secret_data)))[0]
  ])
  request_headers = ["X-Client-Ip: {client_ip_address}", "X-Edge-Key: ${local.edge_key}"]

  # What functions answer too (common/answers.py), for answers that are not theirs.
  response_headers = ["Strict-Transport-Security: max-age=63072000; includeSubDomains; preload"]

  # WSGI reads X_Client_Ip as X-Client-Ip, and the load balancer does not: so every such spelling goes. Whose credentials
  # a request carries only Google's own proxies may say.
  misspelt_headers = flatten([
    for name in ["X-Client-Ip", "X-Edge-Key", "X-Forwarded-Authorization"] : [
      for signs in setproduct(["-", "_"], ["-", "_"]) :
      format("%s%s%s%s%s", split("-", name)[0], signs[0], split("-", name)[1], signs[1], split("-", name)[2])
      if join("", signs) != "--"
    ]
  ])
  removed_headers = concat(local.misspelt_headers, ["X-Forwarded-Authorization", "X-Serverless-Authorization"])
}

data "google_secret_manager_secret_version" "edge_key" {
  count = local.serving ? 1 : 0

  secret = google_secret_manager_secret.main["edge-key"].id
}

# Where it leads

resource "google_compute_backend_service" "api" { # without a backend, before the first services, it answers 503
  name                    = "api"
  load_balancing_scheme   = "EXTERNAL_MANAGED"
  protocol                = "HTTPS"
  security_policy         = google_compute_security_policy.edge.id
  custom_request_headers  = local.request_headers
  custom_response_headers = local.response_headers

  dynamic "backend" {
    for_each = google_compute_region_network_endpoint_group.gateway
    content {
      group = backend.value.id
    }
  }

  log_config {
    enable      = true
    sample_rate = 1
  }
}

resource "google_compute_region_network_endpoint_group" "run" {
  for_each = local.run_backends

  name                  = "run-${each.key}"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.main[each.key].name
  }

  lifecycle {
    create_before_destroy = true # what refers to it moves away first
  }
}

resource "google_compute_backend_service" "run" {
  for_each = local.run_backends

  name                    = "run-${each.key}"
  load_balancing_scheme   = "EXTERNAL_MANAGED"
  protocol                = "HTTPS"
  security_policy         = google_compute_security_policy.edge.id
  custom_request_headers  = local.request_headers
  custom_response_headers = local.response_headers

  backend {
    group = google_compute_region_network_endpoint_group.run[each.key].id
  }

  log_config {
    enable      = true
    sample_rate = 1
  }

  lifecycle {
    create_before_destroy = true # what refers to it moves away first
  }
}

# The session API on GKE. Its endpoint groups are made by the cluster: docs/sessions-on-gke.md.
data "google_compute_network_endpoint_group" "sessions" {
  for_each = local.session_groups

  name = "dev-context-sessions"
  zone = each.key
}

resource "google_compute_health_check" "sessions" {
  name                = "sessions"
  check_interval_sec  = 5
  timeout_sec         = 5
  healthy_threshold   = 1
  unhealthy_threshold = 2

  http_health_check {
    port         = 8080
    request_path = "/health/serving"
  }

  log_config {
    enable = true
  }

  depends_on = [google_project_service.main]
}

resource "google_compute_backend_service" "sessions" {
  count = length(local.session_groups) > 0 ? 1 : 0

  name                            = "sessions"
  load_balancing_scheme           = "EXTERNAL_MANAGED"
  protocol                        = "HTTP"
  security_policy                 = google_compute_security_policy.edge.id
  custom_request_headers          = local.request_headers
  custom_response_headers         = local.response_headers
  health_checks                   = [google_compute_health_check.sessions.id]
  locality_lb_policy              = "LEAST_REQUEST"
  session_affinity                = "NONE"
  enable_cdn                      = false
  timeout_sec                     = 3600 # the longest life of a stream
  connection_draining_timeout_sec = 120  # more than the grace period of a pod

  dynamic "backend" {
    for_each = local.session_groups
    content {
      group                 = data.google_compute_network_endpoint_group.sessions[backend.key].id
      balancing_mode        = "RATE"
      max_rate_per_endpoint = 1000
    }
  }

  log_config {
    enable      = true
    sample_rate = 1
  }

  lifecycle {
    create_before_destroy = true # what refers to it moves away first
  }
}

resource "google_compute_url_map" "main" {
  name            = "main"
  default_service = google_compute_backend_service.api.id # never used: the rule below takes every host

  header_action {
    request_headers_to_remove = local.removed_headers
  }

  host_rule {
    hosts        = ["*"]
    path_matcher = "main"
  }

  path_matcher {
    name            = "main"
    default_service = local.fallback_service

    # Maintenance: every request is answered here and none is passed on.
    dynamic "default_route_action" {
      for_each = var.maintenance ? [503] : []
      content {
        fault_injection_policy {
          abort {
            http_status = default_route_action.value
            percentage  = 100
          }
        }
      }
    }

    # Without the gateway: what no path of the catalog names goes where no route is, so that the 404 is ours and a
    # client's path never leads to an internal route.
    dynamic "default_route_action" {
      for_each = !var.maintenance && length(local.run_backends) > 0 ? ["/not-found/"] : []
      content {
        url_rewrite {
          path_prefix_rewrite = default_route_action.value
        }
      }
    }

    dynamic "path_rule" {
      for_each = { for name, service in local.run_backends : name => service if !var.maintenance }
      content {
        paths   = flatten([for path in path_rule.value.paths : [path, "${path}/*"]])
        service = google_compute_backend_service.run[path_rule.key].id
      }
    }

    dynamic "path_rule" {
      for_each = [for service in google_compute_backend_service.sessions : service if !var.maintenance]
      content {
        paths   = local.session_paths
        service = path_rule.value.id
      }
    }
  }
}

locals {
  fallback_service = length(local.run_backends) > 0 ? google_compute_backend_service.run["auth"].id : google_compute_backend_service.api.id
}

# TLS. RESTRICTED at 1.2 would allow six cipher suites of TLS 1.2 beside 1.3; at 1.3 there is nothing older.
# Source: https://cloud.google.com/load-balancing/docs/ssl-policies-concepts
resource "google_compute_ssl_policy" "main" {
  name            = "main"
  profile         = "RESTRICTED"
  min_tls_version = "TLS_1_3"

  depends_on = [google_project_service.main]
}

# Certificate Manager, proven by a record in the DNS: it is there before the first client is and renews itself even
# while the domain points elsewhere. The classic managed certificate waits for traffic and so for an outage at a move.
resource "google_certificate_manager_dns_authorization" "main" {
  name   = "main"
  domain = var.domain

  depends_on = [google_project_service.main]
}

resource "google_certificate_manager_certificate" "main" {
  name = "main"

  managed {
    domains            = [var.domain]
    dns_authorizations = [google_certificate_manager_dns_authorization.main.id]
  }
}

resource "google_certificate_manager_certificate_map" "main" {
  name = "main"

  depends_on = [google_project_service.main]
}

resource "google_certificate_manager_certificate_map_entry" "main" {
  name         = "main"
  map          = google_certificate_manager_certificate_map.main.name
  certificates = [google_certificate_manager_certificate.main.id]
  hostname     = var.domain
}

resource "google_compute_global_address" "edge" {
  name = "edge"

  depends_on = [google_project_service.main]
}

resource "google_compute_target_https_proxy" "main" {
  name            = "main"
  url_map         = google_compute_url_map.main.id
  ssl_policy      = google_compute_ssl_policy.main.id
  certificate_map = "//certificatemanager.googleapis.com/${google_certificate_manager_certificate_map.main.id}"
  tls_early_data  = "DISABLED" # its requests can be played again
  quic_override   = "ENABLE"   # HTTP/3 is TLS 1.3 by itself
}

resource "google_compute_global_forwarding_rule" "https" {
  name                  = "https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.edge.id
  port_range            = "443"
  target                = google_compute_target_https_proxy.main.id
}

# Plain HTTP says where to go, and nothing else.
resource "google_compute_url_map" "redirect" {
  name = "redirect"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "MOVED_PERMANENTLY_DEFAULT"
    strip_query            = false
  }

  depends_on = [google_project_service.main]
}

resource "google_compute_target_http_proxy" "redirect" {
  name    = "redirect"
  url_map = google_compute_url_map.redirect.id
}

resource "google_compute_global_forwarding_rule" "http" {
  name                  = "http"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.edge.id
  port_range            = "80"
  target                = google_compute_target_http_proxy.redirect.id
}
