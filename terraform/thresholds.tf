# Alerts that count or measure. The first four are those that the security guide asks for.

locals {
  log_counts = { for name, metric in google_logging_metric.main : name => "metric.type=\"logging.googleapis.com/user/${metric.name}\"" }

  database_resource = "resource.type=\"cloudsql_database\" AND resource.labels.database_id=\"${var.project}:${google_sql_database_instance.main.name}\""
  pods_resource     = "resource.type=\"k8s_container\" AND resource.labels.namespace_name=\"dev-context\""

  threshold_alerts = merge(local.security_alerts, local.operation_alerts, local.database_alerts, local.session_alerts, local.uptime_alerts)

  security_alerts = {
    failed_log_ins = {
      title    = "Many log-ins fail"
      severity = "WARNING"
      means    = "More than ${var.failed_log_ins_a_minute} log-ins or second factors a minute fail, of everybody together: somebody tries passwords, or a client has a fault."
      first    = "The metric's label `code` says which. One address that goes beyond the limit alone is blocked by itself (`operator block list`); many that each stay below it are not. Accounts lock by themselves."
      runbook  = "docs/edge.md"
      thresholds = [{
        name  = "more than ${var.failed_log_ins_a_minute} a minute", filter = "${local.log_counts.failed_log_ins} AND ${local.our_resources}"
        above = var.failed_log_ins_a_minute, period = "${local.answers.failed_log_ins.seconds}s", aligner = "ALIGN_DELTA"
      }]
    }
    unauthorized = {
      title    = "Many requests are refused for who sends them"
      severity = "WARNING"
      means    = "More than 60 requests in five minutes asked for what they may not, or came with a credential that is none: somebody looks for a way in, or a client is out of date."
      first    = "The metric's label `code` says which: `permission_denied` stands in the audit trail of the organization with its route, `refresh_token_reused` means a stolen token. One address that goes beyond the limit alone is blocked by itself."
      runbook  = "docs/incidents.md"
      thresholds = [{
        name  = "more than 60 in five minutes", filter = "${local.log_counts.unauthorized} AND ${local.our_resources}"
        above = local.answers.unauthorized.above, period = "${local.answers.unauthorized.seconds}s", aligner = "ALIGN_DELTA"
      }]
    }
    query_timeouts = {
      title    = "Statements take too long for the database"
      severity = "ERROR"
      means    = "The database ended more than three statements in five minutes. Values are parameters everywhere, so it is load or a missing index rather than an injection; look all the same."
      first    = "Query insights of the instance show the slowest statements and what they wait for; the label `service` says whose they are."
      runbook  = "docs/incidents.md"
      thresholds = [{
        name  = "more than three in five minutes", filter = "${local.log_counts.query_timeouts} AND ${local.our_resources}"
        above = 3, period = "300s", aligner = "ALIGN_DELTA"
      }]
    }
    abnormal_usage = {
      title    = "Somebody asks far too often"
      severity = "WARNING"
      means    = "More than 300 requests in five minutes were refused because their limit was used up."
      first    = "Which limit it is, `RateLimit-Policy` of the answers says; whose, the entries of the load balancer. A key that runs wild can be deleted; one address that goes beyond the limit alone is blocked by itself."
      runbook  = "docs/edge.md"
      thresholds = [{
        name  = "more than 300 in five minutes", filter = "${local.log_counts.rate_limited} AND ${local.our_resources}"
        above = local.answers.abnormal_usage.above, period = "${local.answers.abnormal_usage.seconds}s", aligner = "ALIGN_DELTA"
      }]
    }
    abnormal_traffic = {
      title    = "Three times the traffic of a day ago"
      severity = "WARNING"
      means    = "Over half an hour more than ten requests a second came, and three times as many as at the same time of the day before: an attack, a new customer, or a client in a loop."
      first    = "Look by country, path and client in the load balancer's log, then at Cloud Armor's limits."
      runbook  = "docs/edge.md"
      duration = "600s"
      promql   = "sum(rate(loadbalancing_googleapis_com:https_request_count{monitored_resource=\"https_lb_rule\"}[30m])) > 3 * sum(rate(loadbalancing_googleapis_com:https_request_count{monitored_resource=\"https_lb_rule\"}[30m] offset 1d)) and sum(rate(loadbalancing_googleapis_com:https_request_count{monitored_resource=\"https_lb_rule\"}[30m])) > 10"
    }
    secrets_by_hand = {
      title    = "A secret made by hand is to be renewed"
      severity = "WARNING"
      means    = "A secret that we cannot turn ourselves was not renewed for 90 days."
      first    = "The message in the subscription `secret-rotation` names it: renew it where it comes from, add a version, then acknowledge the message."
      runbook  = "docs/keys.md"
      thresholds = [{
        name   = "a reminder waits", above = 0, period = "300s", aligner = "ALIGN_MAX"
        filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.secret_rotation.name}\""
      }]
    }
  }

  operation_alerts = {
    server_errors = {
      title    = "A backend answers with errors"
      severity = "CRITICAL"
      means    = "More than 5 % of the requests of a backend are answered with 5xx for five minutes."
      first    = "Was there a release? Go back. Otherwise the entries of severity ERROR say whether it is the database, the cache or a defect."
      runbook  = "docs/runbooks/rollback.md"
      thresholds = [{
        name   = "more than 5 % for five minutes", above = 0.05, period = "60s", aligner = "ALIGN_RATE", duration = "300s", by = ["resource.label.backend_target_name"]
        filter = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND ${local.balancer_resource} AND metric.labels.response_code_class=500"
        of     = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND ${local.balancer_resource}"
      }]
    }
    defects = {
      title    = "Errors that nobody expected"
      severity = "ERROR"
      means    = "A service answered 500 more than five times in five minutes. Each is a defect of ours."
      first    = "The entry `unexpected error` has the type and the places in the code; the trace has the request."
      runbook  = "docs/runbooks/rollback.md"
      thresholds = [{
        name  = "more than five in five minutes", filter = "${local.log_counts.defects} AND ${local.our_resources}"
        above = 5, period = "300s", aligner = "ALIGN_DELTA", by = ["metric.label.service"]
      }]
    }
    schedule_failures = {
      title    = "A scheduled job fails"
      severity = "ERROR"
      means    = "Cloud Scheduler got errors more than three times in a quarter of an hour: mails wait, jobs are not rescued, or retention, anchors or keys did not run."
      first    = "The entries of `cloud_scheduler_job` name the job; the log of `retention` or `keys` at that time says why. Run it again by hand."
      runbook  = "docs/retention.md"
      thresholds = [{
        name  = "more than three in a quarter of an hour", filter = "${local.log_counts.schedule_failures} AND resource.type=\"cloud_scheduler_job\""
        above = 3, period = "900s", aligner = "ALIGN_DELTA", by = ["resource.label.job_id"]
      }]
    }
    queue_depth = {
      title    = "Tasks wait in a queue"
      severity = "ERROR"
      means    = "More than 1000 mails or jobs wait for ten minutes: whoever takes them does not answer, or answers with errors."
      first    = "The queue's log has the status of each attempt; `auth` sends the mails, Workflows start the jobs."
      runbook  = "docs/desk.md"
      thresholds = [{
        name   = "more than 1000 for ten minutes", above = 1000, period = "60s", aligner = "ALIGN_MAX", duration = "600s", by = ["resource.label.queue_id"]
        filter = "metric.type=\"cloudtasks.googleapis.com/queue/depth\" AND resource.type=\"cloud_tasks_queue\""
      }]
    }
    workflow_failures = {
      title    = "A workflow ended with an error"
      severity = "ERROR"
      means    = "Not even the compensation of a copy or an erasure could be done. The job is found silent and starts anew by itself."
      first    = "The execution shows the step; the log of the job service at that time says why."
      runbook  = "docs/desk.md"
      thresholds = [{
        name   = "one", above = 0, period = "300s", aligner = "ALIGN_DELTA", by = ["resource.label.workflow_id"]
        filter = "metric.type=\"workflows.googleapis.com/finished_execution_count\" AND resource.type=\"workflows.googleapis.com/Workflow\" AND metric.labels.status=\"FAILED\""
      }]
    }
    job_failures = {
      title    = "A job failed"
      severity = "ERROR"
      means    = "A job of Cloud Run (migrate, provision, an operator's act, a replay of erasures) did not end well."
      first    = "`gcloud run jobs executions list` and its log. After a failed migration no release goes on."
      runbook  = "docs/runbooks/deploy.md"
      thresholds = [{
        name   = "one", above = 0, period = "300s", aligner = "ALIGN_DELTA", by = ["resource.label.job_name"]
        filter = "metric.type=\"run.googleapis.com/job/completed_execution_count\" AND resource.type=\"cloud_run_job\" AND metric.labels.result=\"failed\""
      }]
    }
    cache_memory = {
      title    = "The cache is nearly full"
      severity = "WARNING"
      means    = "More than 80 % of Valkey's memory is used. Counters are dropped first, announcements of ended log-ins last."
      first    = "Take a bigger node (`cache_node`): the change is made while it works."
      runbook  = "docs/runbooks/sessions.md"
      thresholds = [{
        name   = "more than 80 % for ten minutes", above = 0.8, period = "60s", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", duration = "600s"
        filter = "metric.type=\"memorystore.googleapis.com/instance/memory/maximum_utilization\" AND resource.type=\"memorystore.googleapis.com/Instance\""
      }]
    }
  }
  balancer_resource = "resource.type=\"https_lb_rule\" AND resource.labels.url_map_name=\"${google_compute_url_map.main.name}\""

  database_alerts = merge({
    database_disk = {
      title    = "The database's disk comes to its limit"
      severity = "CRITICAL"
      means    = "80 % of what the disk may grow to is used. When it is full, the database stops writing."
      first    = "Raise `database_disk_limit_gb`; then look what grew (a bench, a partition that did not go, write-ahead logs)."
      runbook  = "docs/retention.md"
      thresholds = [{
        name   = "80 % of the limit", above = var.database_disk_limit_gb * pow(2, 30) * 0.8, period = "300s", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX"
        filter = "metric.type=\"cloudsql.googleapis.com/database/disk/bytes_used\" AND ${local.database_resource}"
      }]
    }
    database_cpu = {
      title    = "The database works to capacity"
      severity = "WARNING"
      means    = "More than 80 % of the processors' time is used for a quarter of an hour; answers get slower."
      first    = "Query insights show the statements that cost most. A bigger machine is `database_tier`, with a restart of about a minute."
      runbook  = "docs/architecture.md"
      thresholds = [{
        name   = "more than 80 % for 15 minutes", above = 0.8, period = "60s", aligner = "ALIGN_MEAN", reducer = "REDUCE_MAX", duration = "900s"
        filter = "metric.type=\"cloudsql.googleapis.com/database/cpu/utilization\" AND ${local.database_resource}"
      }]
    }
    database_connections = {
      title    = "The database's connections run out"
      severity = "ERROR"
      means    = "More than 80 % of `max_connections` are in use. The catalog allows no more than fit, so something keeps what it should give back."
      first    = "`pg_stat_activity` by user and state: which service is it, and is it idle in a transaction?"
      runbook  = "docs/architecture.md"
      thresholds = [{
        name   = "more than 80 %", above = local.catalog.database.max_connections * 0.8, period = "60s", aligner = "ALIGN_MAX", duration = "300s"
        filter = "metric.type=\"cloudsql.googleapis.com/database/postgresql/num_backends\" AND ${local.database_resource}"
      }]
    }
    }, {
    for name in ["replica_lag"] : name => {
      title    = "The copy of the database in the other region lags"
      severity = "ERROR"
      means    = "It is more than five minutes behind; what it lacks would be lost with the region. The objective is 15 minutes."
      first    = "Is a long transaction or a bench under way? Then it catches up. Otherwise look at the replica's processor and disk."
      runbook  = "docs/runbooks/restore.md"
      thresholds = [{
        name   = "more than five minutes", above = 300, period = "60s", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", duration = "300s"
        filter = "metric.type=\"cloudsql.googleapis.com/database/replication/replica_lag\" AND resource.type=\"cloudsql_database\""
      }]
    } if var.replica_region != null
  })

  session_alerts = merge({
    pods_restart = {
      title    = "Pods of the session API restart"
      severity = "ERROR"
      means    = "More than two restarts in ten minutes: a setting, a login with too many rights, memory, or a dependency that a new pod waits for."
      first    = "`kubectl -n dev-context get pods` and the log of the container before: it says why it does not start."
      runbook  = "docs/runbooks/sessions.md"
      thresholds = [{
        name   = "more than two in ten minutes", above = 2, period = "600s", aligner = "ALIGN_DELTA"
        filter = "metric.type=\"kubernetes.io/container/restart_count\" AND ${local.pods_resource}"
      }]
    }
    }, {
    for name in ["few_endpoints"] : name => {
      title    = "Fewer than two pods of the session API serve"
      severity = "CRITICAL"
      means    = "The load balancer has one endpoint or none: the next loss ends all streams."
      first    = "`kubectl -n dev-context get pods -o wide`: pending for lack of nodes, not ready for lack of the database, or not pulled?"
      runbook  = "docs/runbooks/sessions.md"
      duration = "300s"
      promql   = "(sum(kube_deployment_status_replicas_available{namespace=\"dev-context\", deployment=\"sessions\"}) or vector(0)) < 2"
    } if length(var.session_endpoint_zones) > 0
  })

  uptime_alerts = {
    for name, check in google_monitoring_uptime_check_config.main : "uptime_${name}" => {
      title    = "The API does not answer (${name})"
      severity = "CRITICAL"
      means    = name == "ready" ? "Asked from outside, it does not say that the database and the cache answer." : "Asked from outside, it does not answer at all: name, certificate, load balancer, gateway or service."
      first    = name == "ready" ? "Look at Cloud SQL and Memorystore. Is a zone gone, the standby takes over within a minute or two." : "Does the name lead to the address, is the certificate valid, is `maintenance` on? Then the load balancer's log: does a backend answer?"
      runbook  = name == "ready" ? "docs/runbooks/restore.md" : "docs/edge.md"
      thresholds = [{
        name   = "two places see it", above = 1, period = "300s", aligner = "ALIGN_NEXT_OLDER", reducer = "REDUCE_COUNT_FALSE", duration = "60s"
        filter = "metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND resource.type=\"uptime_url\" AND metric.labels.check_id=\"${check.uptime_check_id}\""
      }]
    }
  }
}
