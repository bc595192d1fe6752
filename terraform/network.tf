# One network, three tiers: what meets the outside, what computes, and what holds data.

locals {
  ranges = {                   # docs/sessions-on-gke.md and sessions/k8s/base/network.yaml know these too
    private  = "10.10.0.0/20"  # nodes, Cloud Run's direct egress, the control plane's private endpoint
    public   = "10.10.16.0/20" # for proxies and bastions; the load balancer itself stands at Google's edge, outside of us
    data     = "10.10.32.0/20" # the isolated block: the next two
    sql      = "10.10.32.0/21" # Cloud SQL, in Google's network behind private service access
    database = "10.10.40.0/21" # Memorystore's endpoint, in ours
    pods     = "10.20.0.0/16"
    services = "10.30.0.0/20"
  }
}

resource "google_compute_network" "main" {
  name                    = "main"
  auto_create_subnetworks = false
  routing_mode            = "REGIONAL"

  depends_on = [google_project_service.main]
}

resource "google_compute_subnetwork" "public" {
  name                     = "public"
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = local.ranges.public
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_5_SEC"
    flow_sampling        = var.flow_sampling
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_subnetwork" "private" {
  name                     = "private"
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = local.ranges.private
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = local.ranges.pods
  }

  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = local.ranges.services
  }

  log_config {
    aggregation_interval = "INTERVAL_5_SEC"
    flow_sampling        = var.flow_sampling
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Isolated: no NAT, no route from the outside, and nothing of ours runs in it.
resource "google_compute_subnetwork" "database" {
  name                     = "database"
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = local.ranges.database
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_5_SEC"
    flow_sampling        = var.flow_sampling
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Private service access: Google puts Cloud SQL's address into this range of ours and peers its network with it.
resource "google_compute_global_address" "database" {
  name          = "database"
  network       = google_compute_network.main.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  address       = split("/", local.ranges.sql)[0]
  prefix_length = tonumber(split("/", local.ranges.sql)[1])
}

resource "google_service_networking_connection" "database" {
  network                 = google_compute_network.main.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.database.name]
}

# Memorystore makes its endpoint itself, in the isolated subnet and nowhere else.
resource "google_network_connectivity_service_connection_policy" "cache" {
  name          = "cache"
  location      = var.region
  network       = google_compute_network.main.id
  service_class = "gcp-memorystore"

  psc_config {
    subnetworks = [google_compute_subnetwork.database.id]
  }
}

# The way out, for what computes alone. Its address is known and stays, so that others can allow it by name.
resource "google_compute_router" "main" {
  name    = "main"
  network = google_compute_network.main.id
  region  = var.region
}

resource "google_compute_address" "nat" {
  name         = "nat"
  region       = var.region
  address_type = "EXTERNAL"

  depends_on = [google_project_service.main]
}

resource "google_compute_router_nat" "main" {
  name                                = "main"
  router                              = google_compute_router.main.name
  region                              = var.region
  nat_ip_allocate_option              = "MANUAL_ONLY"
  nat_ips                             = [google_compute_address.nat.self_link]
  source_subnetwork_ip_ranges_to_nat  = "LIST_OF_SUBNETWORKS"
  enable_dynamic_port_allocation      = true
  enable_endpoint_independent_mapping = false # not together with dynamic ports
  min_ports_per_vm                    = 64    # 64,512 ports of one address: room for a thousand instances
  max_ports_per_vm                    = 4096

  subnetwork {
    name                     = google_compute_subnetwork.private.id
    source_ip_ranges_to_nat  = ["PRIMARY_IP_RANGE", "LIST_OF_SECONDARY_IP_RANGES"]
    secondary_ip_range_names = ["pods"]
  }

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
