# API Gateway: routes from our own document, and an identity of its own towards Cloud Run. Its hostname stays public, so
# functions ask for the edge key. Behind the load balancer by an endpoint group that is in Preview: docs/decisions/0025.

locals {
  gateways = local.serving && !local.edge_is_run ? toset(["main"]) : toset([])

  # gateway.json.tftpl is written by `python -m local.openapi` from the route tables; here it gets the addresses.
  gateway_document = jsonencode(jsondecode(templatefile("${path.module}/gateway.json.tftpl", {
    for name, url in local.run_urls : replace(name, "-", "_") => url
  })))
}

resource "google_api_gateway_api" "main" {
  for_each = local.gateways
  provider = google-beta

  api_id       = "dev-context"
  display_name = "Dev Context"

  depends_on = [google_project_service.main]
}

resource "google_api_gateway_api_config" "main" {
  for_each = local.gateways
  provider = google-beta

  api                  = google_api_gateway_api.main[each.key].api_id
  api_config_id_prefix = "dev-context-"

  openapi_documents {
    document {
      path     = "openapi.json"
      contents = base64encode(local.gateway_document)
    }
  }

  gateway_config {
    backend_config {
      google_service_account = google_service_account.main["gateway"].id
    }
  }

  lifecycle {
    ignore_changes = [openapi_documents] # this is the first; tools/release makes each later one (docs/decisions/0033)
  }

  depends_on = [google_cloud_run_v2_service.main] # functions first: no path leads to what is not there
}

resource "google_api_gateway_gateway" "main" {
  for_each = local.gateways
  provider = google-beta

  gateway_id   = "dev-context"
  display_name = "Dev Context"
  region       = var.region
  api_config   = google_api_gateway_api_config.main[each.key].id

  lifecycle {
    ignore_changes = [api_config, labels] # tools/release leads it to another document, and notes the one before
  }
}

resource "google_compute_region_network_endpoint_group" "gateway" {
  for_each = local.gateways
  provider = google-beta

  name                  = "gateway"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  serverless_deployment {
    platform = "apigateway.googleapis.com"
    resource = google_api_gateway_gateway.main[each.key].gateway_id
  }

  lifecycle {
    create_before_destroy = true # what refers to it moves away first
  }
}
