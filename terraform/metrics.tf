# What is counted from log lines. The fields are those of our own lines (common/log.py, common/http.py): a test writes
# such lines with the product's code and asks these filters.

locals {
  # What the incident automation answers counts codes of docs/errors.md: proofs of identity that failed, what somebody
  # asked for who may not, and what came too often. It blocks by the same list (functions/incidents).
  answers = yamldecode(file("${path.module}/../functions/incidents/alerts.yaml"))
  codes   = { for name, answer in local.answers : name => join(" OR ", [for code in answer.codes : "\"${code}\""]) if can(answer.codes) }

  log_metrics = {
    failed_log_ins = {
      says   = "Log-ins and second factors that failed"
      filter = "jsonPayload.message=\"request\" AND jsonPayload.code=(${local.codes.failed_log_ins})"
      label  = "code"
    }
    unauthorized = {
      says   = "Requests that were refused for who sent them"
      filter = "jsonPayload.message=\"request\" AND jsonPayload.code=(${local.codes.unauthorized})"
      label  = "code"
    }
    query_timeouts = {
      says   = "Statements that the database ended because they took too long"
      filter = "jsonPayload.message=\"database not available\" AND jsonPayload.code=\"57014\""
      label  = "service"
    }
    rate_limited = {
      says   = "Requests that came too often"
      filter = "jsonPayload.message=\"request\" AND jsonPayload.code=(${local.codes.abnormal_usage})"
      label  = "service"
    }
    defects = {
      says   = "Errors that nobody expected"
      filter = "jsonPayload.message=\"unexpected error\" AND severity=ERROR"
      label  = "service"
    }
    schedule_failures = {
      says   = "Jobs of Cloud Scheduler that were answered with an error"
      filter = "resource.type=\"cloud_scheduler_job\" AND severity>=ERROR"
      label  = null
    }
  }

  # Where our own lines come from. Monitoring wants the type of the resource in every condition.
  our_resources = "resource.type = one_of(\"cloud_run_revision\", \"cloud_run_job\", \"k8s_container\")"
}

resource "google_logging_metric" "main" {
  for_each = local.log_metrics

  name             = each.key
  description      = each.value.says
  filter           = each.value.filter
  label_extractors = each.value.label == null ? {} : { (each.value.label) = "EXTRACT(jsonPayload.${each.value.label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = each.value.label == null ? [] : [each.value.label]
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  depends_on = [google_project_service.main]
}
