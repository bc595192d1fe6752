# Closed both ways; each rule below opens one thing. Traffic of the load balancer's clients ends at Google's edge and
# never meets these rules: what arrives in the network comes from Google's own proxies.

locals {
  google_proxies = ["130.211.0.0/22", "35.191.0.0/16"] # load balancers and their health checks
  private_ranges = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]
}

# In

resource "google_compute_firewall" "allow_https" {
  name          = "allow-https"
  network       = google_compute_network.main.id
  description   = "HTTPS to what carries the tag; nothing does today"
  direction     = "INGRESS"
  priority      = 1000
  source_ranges = ["0.0.0.0/0"]
  target_tags   = ["https-server"]

  allow {
    protocol = "tcp"
    ports    = ["443"]
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "allow_load_balancer" {
  name               = "allow-load-balancer"
  network            = google_compute_network.main.id
  description        = "Load balancer and health checks to the session API; GKE opens nothing for a standalone group"
  direction          = "INGRESS"
  priority           = 1000
  source_ranges      = local.google_proxies
  destination_ranges = [local.ranges.pods]

  allow {
    protocol = "tcp"
    ports    = ["8080"]
  }
}

resource "google_compute_firewall" "deny_ingress" {
  name          = "deny-all-inbound"
  network       = google_compute_network.main.id
  description   = "Everything else, with a line in the log"
  direction     = "INGRESS"
  priority      = 65534 # one before Google's implied rules, which log nothing
  source_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

# Out

resource "google_compute_firewall" "allow_data" {
  name               = "allow-to-data"
  network            = google_compute_network.main.id
  description        = "Cloud SQL behind its connector, and Valkey"
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.ranges.data]

  allow {
    protocol = "tcp"
    ports    = ["3307", "6379"]
  }
}

resource "google_compute_firewall" "allow_google" {
  name               = "allow-to-google"
  network            = google_compute_network.main.id
  description        = "Google's APIs at private.googleapis.com (dns.tf)"
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.google_api_range]

  allow {
    protocol = "tcp"
    ports    = ["443"]
  }
}

# The control plane's private endpoint stands among the nodes. What a pod may do inside, its NetworkPolicy says.
resource "google_compute_firewall" "allow_cluster" {
  name               = "allow-in-cluster"
  network            = google_compute_network.main.id
  description        = "Nodes, pods and control plane among themselves"
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.ranges.private, local.ranges.pods, local.ranges.services]

  allow {
    protocol = "all"
  }
}

resource "google_compute_firewall" "deny_private" {
  name               = "deny-to-private"
  network            = google_compute_network.main.id
  description        = "No other private address, so that the next rule means the outside alone"
  direction          = "EGRESS"
  priority           = 2000
  destination_ranges = local.private_ranges

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_firewall" "allow_outside" {
  name               = "allow-to-outside"
  network            = google_compute_network.main.id
  description        = "HTTPS to processors, identity providers and Sentry, and mail submission over TLS"
  direction          = "EGRESS"
  priority           = 3000
  destination_ranges = ["0.0.0.0/0"]

  allow {
    protocol = "tcp"
    ports    = ["443", "465", "587"]
  }
}

resource "google_compute_firewall" "deny_egress" {
  name               = "deny-all-outbound"
  network            = google_compute_network.main.id
  description        = "Everything else, with a line in the log"
  direction          = "EGRESS"
  priority           = 65534
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}
