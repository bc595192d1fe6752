# Who is told of what. Each alert says what it means, what to do first and where the rest stands; docs/alerts.md is the
# same as a table, and a test compares the two. thresholds.tf has those that count, slo.tf the error budgets.

locals {
  # Lines that one alert each is about; any other CRITICAL line of ours raises the last one.
  told_apart = {
    broken_chain     = ["an audit chain is broken", "an audit chain takes no event", "an object among the anchors is not ours"]
    stuck_jobs       = ["a job gets no further"]
    overdue_requests = ["a request is overdue", "a request is due soon"]
    incident_clock   = ["the 72 hours of an incident are over", "the 72 hours of an incident are over within a day"]
    erasures = [
      "an erasure failed", "a processor could not be told of an erasure", "an erasure left rows",
      "the database does not know these tables", "the logs hold what identifies an erased person",
    ]
    keys       = ["a secret could not be rotated", "a secret cannot be read, the one from before counts"]
    edge_key   = ["a wrong edge key was shown"]
    answered   = ["an alert was answered"]
    unanswered = ["an alert could not be answered"]
    cache      = ["no rate limits: the cache cannot be reached", "the cache cannot be reached"]
  }
  messages = { for name, texts in local.told_apart : name => "jsonPayload.message=(${join(" OR ", [for text in texts : "\"${text}\""])})" }

  log_alerts = {
    forged = {
      title    = "Somebody shows a forged edge key or identity"
      severity = "CRITICAL"
      means    = "A request brought an edge key that is not ours, or came to an internal route without the account that may call it. After a change of the edge key: the load balancer and the services know different ones, and everybody gets 403."
      first    = "Is everybody refused? Then put the old edge key back beside the new one. Otherwise look from where the requests come (`httpRequest.remoteIp` of the same trace), and open an incident."
      runbook  = "docs/keys.md"
      log      = "${local.messages.edge_key} OR (jsonPayload.message=\"request\" AND jsonPayload.route:\" /internal/\" AND jsonPayload.status=401)"
    }
    broken_chain = {
      title    = "An audit chain is broken"
      severity = "CRITICAL"
      means    = "An event was altered or is missing, the chain takes no more events, or a foreign object lies among the anchors. No service of ours can have done it."
      first    = "Treat it as an incident until it is explained; do not mend anything before the evidence is kept."
      runbook  = "docs/runbooks/broken-chain.md"
      log      = "${local.messages.broken_chain} AND severity=CRITICAL"
    }
    stuck_jobs = {
      title    = "A copy or an erasure gets no further"
      severity = "CRITICAL"
      means    = "A job was started anew five times without getting any further; it is tried every hour from now on. Its legal time limit runs."
      first    = "Read `reason` and the job's id in the entry, then the log of the job service at that time."
      runbook  = "docs/desk.md"
      log      = local.messages.stuck_jobs
    }
    overdue_requests = {
      title    = "A privacy request is overdue"
      severity = "CRITICAL"
      means    = "A copy or an erasure was not done within the month of Art. 12(3) GDPR, or is due within days and nobody could be told by mail."
      first    = "Look for the request in the queue (`overdue=true`): does it wait for an approval, or is it stuck?"
      runbook  = "docs/desk.md"
      log      = "${local.messages.overdue_requests} AND severity=CRITICAL"
    }
    incident_clock = {
      title    = "The 72 hours of an incident end"
      severity = "CRITICAL"
      means    = "An authority has to be notified of a breach within 72 hours (Art. 33 GDPR); they are over, or are within a day, and neither a notice nor a reason for none is recorded."
      first    = "`mails: 0` means that nobody of the organization could be told: call them. Of the platform's own incident: notify now, what is missing may follow."
      runbook  = "docs/incidents.md"
      log      = local.messages.incident_clock
    }
    erasures = {
      title    = "An erasure is not complete"
      severity = "CRITICAL"
      means    = "An erasure failed, left rows or found the person in the logs, or an outside processor does not take the message."
      first    = "The entry has the job's id and names what is left; the job starts anew by itself, an unknown table needs its place in the register."
      runbook  = "docs/erasure.md"
      log      = "${local.messages.erasures} AND severity>=ERROR"
    }
    answered = {
      title    = "An attack was answered"
      severity = "ERROR"
      means    = "The incident automation has opened a record of the platform for an alert; where one network alone was beyond the limit, it is blocked for a while."
      first    = "`blocked` says how many networks, `left_over` for how many the slot had no room. Look into the logs what they were after, judge whether personal data were touched, and close the incident (`operator incident close`)."
      runbook  = "docs/incidents.md"
      log      = local.messages.answered
    }
    unanswered = {
      title    = "An alert could not be answered"
      severity = "ERROR"
      means    = "The incident automation cannot read the logs, or cannot write its slot in Cloud Armor: nobody is blocked by itself, and blocks that are over stay."
      first    = "`reason` says which. A status 403 is a missing role, 400 a rule that somebody is changing; `the slot: it is not ours` means that its action, preview or condition was changed. It is tried again every five minutes."
      runbook  = "docs/edge.md"
      log      = local.messages.unanswered
    }
    keys_not_turned = {
      title    = "A key could not be turned"
      severity = "ERROR"
      means    = "The daily rotation failed for a secret, or a service cannot read a new version. The old key goes on working."
      first    = "The entry names the secret and the error: Secret Manager, Cloud KMS or a missing right. Then run the job `keys` again."
      runbook  = "docs/keys.md"
      log      = local.messages.keys
    }
    keys_destroyed = {
      title    = "A version of an encryption key is to be destroyed"
      severity = "CRITICAL"
      means    = "What is encrypted under it, backups included, cannot be read any more in 30 days."
      first    = "Nothing of ours ever does this. Restore the version (`gcloud kms keys versions restore`) and find out who asked for it."
      runbook  = "docs/keys.md"
      log      = "log_id(\"cloudaudit.googleapis.com/activity\") AND protoPayload.serviceName=\"cloudkms.googleapis.com\" AND protoPayload.methodName=\"DestroyCryptoKeyVersion\""
    }
    external_secret = {
      title    = "Keys do not reach the pods"
      severity = "ERROR"
      means    = "External Secrets cannot copy a secret into the cluster. The pods go on with the old one, until a key that was turned makes every token invalid there."
      first    = "`kubectl -n dev-context describe externalsecret sessions`: a secret without a version, or a missing right."
      runbook  = "docs/runbooks/sessions.md"
      log      = "log_id(\"events\") AND jsonPayload.involvedObject.kind=\"ExternalSecret\" AND jsonPayload.type=\"Warning\""
    }
    cache = {
      title    = "The cache cannot be reached"
      severity = "ERROR"
      means    = "Nobody counts requests, a log-in that ended is found out by the database alone, events of sessions come half a second late. Nothing is lost."
      first    = "Is the Memorystore instance up and does it have memory? Cloud Armor's limits hold meanwhile."
      runbook  = "docs/runbooks/sessions.md"
      log      = "${local.messages.cache} AND severity=ERROR"
    }
    critical = {
      title    = "Something happened that must not"
      severity = "CRITICAL"
      means    = "A service wrote a CRITICAL entry that no other alert is about: a database login with too many rights, a pooled connection that was tampered with, a replica that lost one of its tasks."
      first    = "The message says what; entries of the same trace say how it came. Tampering and rights are an incident."
      runbook  = "docs/incidents.md"
      log = join(" AND ", concat(
        ["severity>=CRITICAL", "resource.type=(\"cloud_run_revision\" OR \"cloud_run_job\" OR \"k8s_container\")"],
        [for filter in local.messages : "NOT ${filter}"],
      ))
    }
  }

  alerts = merge(local.log_alerts, local.threshold_alerts, local.burn_alerts)
}

resource "google_monitoring_alert_policy" "main" { # Monitoring takes minutes to know the metrics of metrics.tf
  for_each = { for name, alert in local.alerts : name => alert if local.serving }

  display_name          = each.value.title
  severity              = each.value.severity
  combiner              = try(each.value.combiner, "OR")
  enabled               = true
  notification_channels = [for name, channel in google_monitoring_notification_channel.main : channel.id if name != "pagerduty" || each.value.severity == "CRITICAL"]
  user_labels           = merge(local.labels, { alert = each.key })

  dynamic "conditions" {
    for_each = try([each.value.log], [])
    content {
      display_name = "an entry in the log"

      condition_matched_log {
        filter = conditions.value
      }
    }
  }

  dynamic "conditions" {
    for_each = try(each.value.thresholds, [])
    content {
      display_name = conditions.value.name

      condition_threshold {
        filter             = conditions.value.filter
        denominator_filter = try(conditions.value.of, null)
        comparison         = "COMPARISON_GT"
        threshold_value    = conditions.value.above
        duration           = try(conditions.value.duration, "0s")

        dynamic "aggregations" {
          for_each = try([conditions.value.aligner], [])
          content {
            alignment_period     = conditions.value.period
            per_series_aligner   = aggregations.value
            cross_series_reducer = try(conditions.value.reducer, "REDUCE_SUM")
            group_by_fields      = try(conditions.value.by, [])
          }
        }

        dynamic "denominator_aggregations" {
          for_each = can(conditions.value.of) ? [conditions.value.aligner] : []
          content {
            alignment_period     = conditions.value.period
            per_series_aligner   = denominator_aggregations.value
            cross_series_reducer = try(conditions.value.reducer, "REDUCE_SUM")
            group_by_fields      = try(conditions.value.by, [])
          }
        }
      }
    }
  }

  dynamic "conditions" {
    for_each = try([each.value.promql], [])
    content {
      display_name = each.value.title

      condition_prometheus_query_language {
        query                     = conditions.value
        duration                  = each.value.duration
        evaluation_interval       = "60s"
        disable_metric_validation = true # before the first data come there is no such metric
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${var.environment}: ${each.value.title}"
    content   = "${each.value.means}\n\n**First:** ${each.value.first}\n\nThe rest: `${each.value.runbook}`, and `docs/alerts.md`.\n"
  }

  alert_strategy {
    auto_close           = "86400s"
    notification_prompts = can(each.value.log) ? ["OPENED"] : ["OPENED", "CLOSED"]

    dynamic "notification_rate_limit" { # one message an hour, however many lines there are
      for_each = can(each.value.log) ? ["3600s"] : []
      content {
        period = notification_rate_limit.value
      }
    }
  }

  depends_on = [google_project_service.main]
}
