# Names inside the network, and, where Cloud DNS holds the domain, those outside.

resource "google_dns_managed_zone" "internal" {
  name        = "internal"
  dns_name    = "${var.environment}.dev-context.internal."
  description = "What our services call by name"
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.main.id
    }
  }

  depends_on = [google_project_service.main]
}

resource "google_dns_record_set" "valkey" {
  managed_zone = google_dns_managed_zone.internal.name
  name         = "valkey.${google_dns_managed_zone.internal.dns_name}"
  type         = "A"
  ttl          = 60
  rrdatas      = [local.valkey_address]
}

# Google's APIs under addresses that no route leads to but the one inside Google: one range for the firewall to open.
# Source: https://cloud.google.com/vpc/docs/configure-private-google-access
locals {
  google_api_range     = "199.36.153.8/30" # private.googleapis.com
  google_api_addresses = [for host in range(4) : cidrhost(local.google_api_range, host)]
  google_domains       = toset(["googleapis.com", "pkg.dev", "gcr.io"])
}

resource "google_dns_managed_zone" "google" {
  for_each = local.google_domains

  name        = replace(each.key, ".", "-")
  dns_name    = "${each.key}."
  description = "Google's APIs by Private Google Access"
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.main.id
    }
  }

  depends_on = [google_project_service.main]
}

resource "google_dns_record_set" "google" {
  for_each = local.google_domains

  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = each.key == "googleapis.com" ? "private.googleapis.com." : "${each.key}."
  type         = "A"
  ttl          = 300
  rrdatas      = local.google_api_addresses
}

resource "google_dns_record_set" "google_all" {
  for_each = local.google_domains

  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = "*.${each.key}."
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [each.key == "googleapis.com" ? "private.googleapis.com." : "${each.key}."]
}

resource "google_dns_policy" "main" {
  name           = "main"
  enable_logging = true # what was looked up from inside tells of an intruder before anything else does

  networks {
    network_url = google_compute_network.main.id
  }

  depends_on = [google_project_service.main]
}

# Outside. Without `dns_zone` somebody makes these by hand: the output dns_records names them.

locals {
  dns_records = {
    address = { name = "${var.domain}.", type = "A", data = google_compute_global_address.edge.address }
    certificate = {
      name = google_certificate_manager_dns_authorization.main.dns_resource_record[0].name
      type = google_certificate_manager_dns_authorization.main.dns_resource_record[0].type
      data = google_certificate_manager_dns_authorization.main.dns_resource_record[0].data
    }
    authority = { name = "${var.domain}.", type = "CAA", data = "0 issue \"pki.goog\"" } # nobody else certifies it
  }
}

resource "google_dns_record_set" "public" {
  for_each = var.dns_zone == null ? toset([]) : toset(["address", "certificate", "authority"])

  managed_zone = var.dns_zone
  name         = local.dns_records[each.key].name
  type         = local.dns_records[each.key].type
  ttl          = 300
  rrdatas      = [local.dns_records[each.key].data]
}
