# Secret Manager: one secret for each id of functions/catalog.yaml. No value is in a variable, a plan or the state, but
# for the edge key, which the load balancer's configuration must hold (load_balancer.tf).
# Rings get their first keys from the job `first-keys` and are turned by functions/keys every day. The secrets under
# `by_hand` are made elsewhere or held elsewhere too: a person renews them (docs/keys.md).

locals {
  by_hand  = local.catalog.by_hand
  reminded = [for id, secret in local.by_hand : id if !try(secret.terraform, false)]
  rings = setsubtract(
    toset(flatten([for login in local.logins : concat(login.secrets, ["context-key-${login.role}"])])),
    keys(local.by_hand),
  )
  everybodys   = ["sentry-dsn", "valkey-ca"] # of whatever serves requests
  secret_ids   = setunion(local.rings, keys(local.by_hand))
  context_keys = [for login in local.logins : "context-key-${login.role}"]

  # Who reads what: each service what it mounts; the rights of the account that turns the rings stand below. A workload's
  # secrets are copied into the cluster by a Kubernetes account that no pod has.
  service_readers = flatten([
    for name, service in local.services : [
      for id in setunion(service.secrets, ["context-key-${service.role}"], local.everybodys) :
      { id = id, reader = name, member = google_service_account.main[name].member }
      if !(try(service.secret_writer, false) && contains(local.written, id))
    ]
  ])
  job_readers = distinct(flatten([ # several jobs share an account
    for name, job in local.catalog.jobs : [
      for id in concat(job.secrets, try(job.context_keys, false) ? local.context_keys : []) :
      { id = id, reader = job.account, member = google_service_account.main[job.account].member }
    ]
  ]))
  workload_readers = flatten([
    for name, workload in local.workloads : [
      for id in setunion(workload.secrets, ["context-key-${workload.role}"], local.everybodys) :
      { id = id, reader = "${name}-secrets", member = "${local.cluster_subjects}/ns/dev-context/sa/${name}-secrets" }
    ]
  ])
  cluster_subjects = join("/", [
    "principal://iam.googleapis.com/projects/${data.google_project.main.number}",
    "locations/global/workloadIdentityPools/${var.project}.svc.id.goog/subject",
  ])
  secret_readers = {
    for right in concat(local.service_readers, local.job_readers, local.workload_readers) :
    "${right.id}/${right.reader}" => right
  }

  # functions/keys reads and replaces every ring, makes what begins with a text of ours, and touches nothing else made by
  # hand.
  written = setunion(local.rings, [for id, secret in local.by_hand : id if try(secret.random, false) || can(secret.begins)])
  secret_writers = merge([
    for name, login in local.logins : {
      for pair in setproduct(local.written, ["roles/secretmanager.secretVersionManager", "roles/secretmanager.secretAccessor"]) :
      "${pair[0]}/${name}/${split(".", pair[1])[1]}" => { id = pair[0], account = name, role = pair[1] }
    } if try(login.secret_writer, false)
  ]...)
}

resource "google_secret_manager_secret" "main" {
  for_each = local.secret_ids

  secret_id           = each.key
  version_destroy_ttl = "604800s" # who destroys a version by mistake has a week to take it back
  deletion_protection = true

  replication {
    user_managed { # not automatic: that would copy keys to regions outside the European Union
      replicas {
        location = var.region
        customer_managed_encryption {
          kms_key_name = google_kms_crypto_key.main["secrets"].id
        }
      }
    }
  }

  # A rotation here renews nothing: it sends a message. So it stands only where a person must act; of a ring it would
  # say "due" about a key that functions/keys has long replaced (KEY_ROTATION_SECONDS, the same 90 days).
  dynamic "rotation" {
    for_each = contains(local.reminded, each.key) ? [var.secret_rotation_seconds] : []
    content {
      rotation_period    = "${rotation.value}s"
      next_rotation_time = timeadd(plantimestamp(), "${rotation.value}s") # of the day it is made; the service moves it on
    }
  }

  dynamic "topics" {
    for_each = contains(local.reminded, each.key) ? [google_pubsub_topic.main["secret-rotation"].id] : []
    content {
      name = topics.value
    }
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [rotation[0].next_rotation_time]
  }

  depends_on = [
    google_kms_crypto_key_iam_member.agent,
    google_pubsub_topic_iam_member.secret_rotation,
  ]
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.secret_readers

  secret_id = google_secret_manager_secret.main[each.value.id].id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}

resource "google_secret_manager_secret_iam_member" "writer" {
  for_each = local.secret_writers

  secret_id = google_secret_manager_secret.main[each.value.id].id
  role      = each.value.role
  member    = google_service_account.main[each.value.account].member
}

# The messages of the topic: each waits, and an alert with it, until somebody has renewed the secret and acknowledges it.

resource "google_pubsub_topic_iam_member" "secret_rotation" {
  topic  = google_pubsub_topic.main["secret-rotation"].id
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.main["secretmanager"].member
}

resource "google_pubsub_subscription" "secret_rotation" {
  name   = "secret-rotation"
  topic  = google_pubsub_topic.main["secret-rotation"].id
  filter = "attributes.eventType = \"SECRET_ROTATE\""

  message_retention_duration = "2678400s" # 31 days, the longest there is
  ack_deadline_seconds       = 60

  expiration_policy {
    ttl = "" # never: it is read once in 90 days
  }
}
