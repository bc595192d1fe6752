# Who may do what, computed from functions/catalog.yaml; the local stack's stand-ins enforce the same grants, so the tests
# of the product prove that they suffice. Secrets stand in secrets.tf, agents of Google's own in kms.tf.
# Nothing here is ever granted to allUsers, and nobody has a role that changes grants.

locals {
  wrapped_rings = ["mfa-key", "phone-key"] # functions/keys/policies.py: what they hold only Cloud KMS can open

  callers  = flatten([for name, service in local.deployed_services : [for caller in service.invokers : { service = name, caller = caller }]])
  senders  = flatten([for name, login in local.logins : [for queue in try(login.queues, []) : { account = name, queue = queue }]])
  openers  = toset([for name, login in local.logins : name if length(setintersection(login.secrets, local.wrapped_rings)) > 0])
  sealers  = toset([for name, login in local.logins : name if try(login.secret_writer, false)])
  signers  = toset([for name, login in local.logins : name if try(login.signs_urls, false)])
  watchers = toset([for name, login in local.logins : name if try(login.reads_logs, false)])
  blockers = toset([for name, login in local.logins : name if try(login.blocks, false)])

  bucket_roles = {
    read   = "roles/storage.objectViewer"
    create = "roles/storage.objectCreator"
    remove = google_project_iam_custom_role.main["remover"].id
    manage = "roles/storage.objectUser"
  }
  bucket_rights = distinct(flatten([ # several jobs share an account
    for entry in concat(
      [for name, login in local.logins : { account = name, buckets = try(login.buckets, {}) }],
      [for job in local.jobs : { account = job.account, buckets = try(job.buckets, {}) }],
      ) : [
      for bucket, rights in entry.buckets : [for right in rights : { account = entry.account, bucket = bucket, right = right }]
    ]
  ]))

  project_rights = merge(
    { for name in local.database_logins : "${name}/roles/cloudsql.client" => name },
    { for name in local.database_logins : "${name}/roles/cloudsql.instanceUser" => name },
    { for name in keys(local.logins) : "${name}/roles/memorystore.dbConnectionUser" => name },
    { for name in keys(local.logins) : "${name}/roles/telemetry.metricsWriter" => name },
    { for name in keys(local.logins) : "${name}/roles/telemetry.tracesWriter" => name },
    { for name in local.watchers : "${name}/roles/logging.viewer" => name },       # the project's entries,
    { for name in local.watchers : "${name}/roles/logging.viewAccessor" => name }, # in whatever bucket they lie
    { "tasks/roles/workflows.invoker" = "tasks" },
    { "workflows/roles/logging.logWriter" = "workflows" }, # a failed call is logged as the workflow's account
  )
}

resource "google_project_iam_custom_role" "main" {
  for_each = {
    remover = { title = "Lists and deletes objects, reads none", permissions = ["storage.objects.delete", "storage.objects.list"] }
    signer  = { title = "Signs as a service account, and makes no tokens of it", permissions = ["iam.serviceAccounts.signBlob"] }
    caller  = { title = "Calls APIs on the project's quota, and sees nothing", permissions = ["serviceusage.services.use"] }
  }

  role_id     = each.key
  title       = each.value.title
  permissions = each.value.permissions

  depends_on = [google_project_service.main]
}

resource "google_project_iam_member" "main" {
  for_each = local.project_rights

  project = var.project
  role    = trimprefix(each.key, "${each.value}/")
  member  = google_service_account.main[each.value].member
}

resource "google_project_iam_member" "caller" { # the Telemetry API wants it of whoever writes there
  for_each = toset(keys(local.logins))

  project = var.project
  role    = google_project_iam_custom_role.main["caller"].id
  member  = google_service_account.main[each.key].member
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = { for call in local.callers : "${call.service}/${call.caller}" => call }

  name     = google_cloud_run_v2_service.main[each.value.service].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.main[each.value.caller].member
}

resource "google_cloud_run_v2_job_iam_member" "operator" {
  for_each = {
    for pair in setproduct(keys(local.deployed_jobs), var.operators) : "${pair[0]}/${pair[1]}" => { job = pair[0], member = pair[1] }
    if !contains(["migrate", "provision", "first-keys"], pair[0]) # those are the release's
  }

  name     = google_cloud_run_v2_job.main[each.value.job].name
  location = var.region
  role     = "roles/run.jobsExecutorWithOverrides"
  member   = each.value.member
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = { for right in local.senders : "${right.account}/${right.queue}" => right }

  name     = google_cloud_tasks_queue.main[each.value.queue].name
  location = var.region
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.main[each.value.account].member
}

resource "google_service_account_iam_member" "tasks" { # a task carries the tokens of this account: only who may use it may say so
  for_each = toset([for right in local.senders : right.account])

  service_account_id = google_service_account.main["tasks"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.main[each.key].member
}

resource "google_service_account_iam_member" "signer" {
  for_each = local.signers

  service_account_id = google_service_account.main[each.key].name
  role               = google_project_iam_custom_role.main["signer"].id
  member             = google_service_account.main[each.key].member
}

resource "google_service_account_iam_member" "pod" {
  for_each = local.workloads

  service_account_id = google_service_account.main[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[dev-context/${each.key}]"

  depends_on = [google_container_cluster.main] # the first cluster makes the pool of identities
}

resource "google_storage_bucket_iam_member" "main" {
  for_each = { for right in local.bucket_rights : "${right.account}/${right.bucket}/${right.right}" => right }

  bucket = google_storage_bucket.main[each.value.bucket].name
  role   = local.bucket_roles[each.value.right]
  member = google_service_account.main[each.value.account].member
}

resource "google_kms_crypto_key_iam_member" "decrypter" {
  for_each = local.openers

  crypto_key_id = google_kms_crypto_key.main["fields"].id
  role          = "roles/cloudkms.cryptoKeyDecrypter"
  member        = google_service_account.main[each.key].member
}

resource "google_kms_crypto_key_iam_member" "encrypter" {
  for_each = local.sealers

  crypto_key_id = google_kms_crypto_key.main["fields"].id
  role          = "roles/cloudkms.cryptoKeyEncrypter"
  member        = google_service_account.main[each.key].member
}
