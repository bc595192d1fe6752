# What people and scripts need to know of what was made. No secret.

output "domain" {
  description = "Host name of the API."
  value       = var.domain
}

output "address" {
  description = "The load balancer's address: what the domain's A record says, where the zone is not ours."
  value       = google_compute_global_address.edge.address
}

output "database" {
  description = "Connection name of the database, as in DATABASE_URL."
  value       = google_sql_database_instance.main.connection_name
}

output "repository" {
  description = "Where images are pushed."
  value       = "${google_artifact_registry_repository.main.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.main.repository_id}"
}

output "buckets" {
  description = "Name of each bucket by its key."
  value       = { for key, bucket in google_storage_bucket.main : key => bucket.name }
}

output "dns_records" {
  description = "What the domain's zone must say; made by Terraform itself where `dns_zone` names the zone."
  value       = local.dns_records
}
