# Dashboards: dashboards.yaml says what is on them, this file how Monitoring wants to be told.

locals {
  dashboards = yamldecode(file("${path.module}/dashboards.yaml"))

  charted = { # what `of` stands for, where it is no type of Google's
    balancer = local.balancer_resource
    database = local.database_resource
    pods     = local.pods_resource
    ours     = "resource.type=\"prometheus_target\""
  }
  combined = { # how the points of a series, and then the series, become a line
    rate  = { aligner = "ALIGN_RATE", reducer = "REDUCE_SUM" }
    count = { aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM" }
    sum   = { aligner = "ALIGN_MEAN", reducer = "REDUCE_SUM" }
    max   = { aligner = "ALIGN_MAX", reducer = "REDUCE_MAX" }
    share = { aligner = "ALIGN_FRACTION_TRUE", reducer = "REDUCE_MEAN" }
    p95   = { aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95" }
    p99   = { aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_99" }
  }
  promises = { availability = google_monitoring_slo.availability.name, latency = google_monitoring_slo.latency.name }

  charts = {
    for name, board in local.dashboards : name => [
      for tile in board.tiles : {
        filter = can(tile.slo) ? "select_slo_budget_fraction(\"${local.promises[tile.slo]}\")" : join(" AND ", compact([
          try("metric.type=\"${tile.metric}\"", ""),
          try(local.charted[tile.of], "resource.type=\"${tile.of}\"", ""),
          try(tile.where, ""),
        ]))
        aggregation = {
          alignmentPeriod    = "60s"
          perSeriesAligner   = try(local.combined[tile.how].aligner, "ALIGN_NEXT_OLDER")
          crossSeriesReducer = try(local.combined[tile.how].reducer, "REDUCE_NONE")
          groupByFields      = try(tile.by, [])
        }
      }
    ]
  }
  board_columns = 48
  board_height  = 14 # of a tile
  board_text    = 5  # of the text on top
}

resource "google_monitoring_dashboard" "main" {
  for_each = { for name, board in local.dashboards : name => board if local.serving }

  dashboard_json = jsonencode({
    displayName = each.value.title
    labels      = local.labels
    mosaicLayout = {
      columns = local.board_columns
      tiles = concat(
        [{
          width  = local.board_columns
          height = local.board_text
          widget = { title = "", text = { content = each.value.says, format = "MARKDOWN" } }
        }],
        [for place, tile in each.value.tiles : {
          xPos   = place % 2 * local.board_columns / 2
          yPos   = local.board_text + floor(place / 2) * local.board_height
          width  = local.board_columns / 2
          height = local.board_height
          widget = merge({ title = tile.title }, {
            for kind, content in {
              logsPanel = { filter = try(tile.logs, ""), resourceNames = ["projects/${var.project}"] }
              xyChart = {
                chartOptions = { mode = "COLOR" }
                dataSets     = [{ plotType = "LINE", targetAxis = "Y1", timeSeriesQuery = { timeSeriesFilter = local.charts[each.key][place] } }]
              }
            } : kind => content if kind == (can(tile.logs) ? "logsPanel" : "xyChart")
          })
        }],
      )
    }
  })

  depends_on = [google_project_service.main]
}
