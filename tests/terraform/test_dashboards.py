"""Dashboards: every metric on them is one that somebody measures, at the resource and by the labels that it has."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.metrics import Counter, Gauge, Histogram, Instrument
from tests.terraform.plans import Plan, plan
from tools.terraform.plan import CHECKOUT

GOOGLES = yaml.safe_load((CHECKOUT / "tests/terraform/google_metrics.yaml").read_text())
KINDS = {Counter: ("counter", "rate"), Gauge: ("gauge", "gauge"), Histogram: ("histogram", "histogram")}
OURS = {
    f"prometheus.googleapis.com/{name}/{KINDS[type(each)][0]}": {
        "of": "prometheus_target",
        "kind": KINDS[type(each)][1],
        "labels": list(each.labels),
    }
    for name, each in Instrument.known.items()
}
FITS = {
    "rate": {("ALIGN_RATE", "REDUCE_SUM"), ("ALIGN_DELTA", "REDUCE_SUM")},
    "gauge": {("ALIGN_MEAN", "REDUCE_SUM"), ("ALIGN_MAX", "REDUCE_MAX")},
    "flag": {("ALIGN_FRACTION_TRUE", "REDUCE_MEAN")},
    "histogram": {("ALIGN_DELTA", f"REDUCE_PERCENTILE_{share}") for share in (95, 99)},
}
OF_RESOURCES = {  # https://cloud.google.com/monitoring/api/resources
    "https_lb_rule": {"backend_target_name", "url_map_name"},
    "prometheus_target": {"job", "instance"},
    "cloud_run_revision": {"service_name", "revision_name"},
    "cloud_run_job": {"job_name"},
    "uptime_url": {"host"},
    "cloud_tasks_queue": {"queue_id"},
    "workflows.googleapis.com/Workflow": {"workflow_id"},
    "cloudsql_database": {"database_id"},
    "k8s_container": {"namespace_name", "pod_name", "container_name"},
    "pubsub_subscription": {"subscription_id"},
    "network_security_policy": {"policy_name"},
}
LABEL = re.compile(r"(metric|resource)\.labels?\.(?:\"([^\"]+)\"|([a-z_]+))")


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan("production")


@pytest.fixture(scope="module")
def boards(planned: Plan) -> dict[str, dict[str, Any]]:
    found = planned.resources("google_monitoring_dashboard")
    return {address.split('"')[1]: json.loads(each["dashboard_json"]) for address, each in found.items()}


@pytest.fixture(scope="module")
def known(planned: Plan) -> dict[str, dict[str, Any]]:
    """Every metric that there is: Google's, ours, and what is counted from log lines."""
    counted = {}
    for each in planned.resources("google_logging_metric").values():
        (descriptor,) = each["metric_descriptor"]
        labels = [label["key"] for label in descriptor.get("labels") or []]
        counted[f"logging.googleapis.com/user/{each['name']}"] = {"of": None, "kind": "rate", "labels": labels}
    found: dict[str, dict[str, Any]] = GOOGLES | OURS | counted
    return found


def tiles(boards: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The charts of metrics, each with where it stands."""
    for name, board in boards.items():
        for tile in board["mosaicLayout"]["tiles"]:
            for part in tile["widget"].get("xyChart", {}).get("dataSets", []):
                yield f"{name}: {tile['widget']['title']}", part["timeSeriesQuery"]["timeSeriesFilter"]


def queries(boards: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Place, metric, resource and query of each chart that shows a metric."""
    for place, query in tiles(boards):
        if not query["filter"].startswith("select_slo_"):
            metric, resource = (
                re.findall(rf'{kind}\.type="([^"]+)"', query["filter"]) for kind in ("metric", "resource")
            )
            assert (len(metric), len(resource)) == (1, 1), place
            yield place, metric[0], resource[0], query


def test_there_is_one_for_each_question(boards: dict[str, dict[str, Any]]) -> None:
    assert set(boards) == {"service", "jobs", "database", "sessions", "edge"}
    assert not plan("foundation").resources("google_monitoring_dashboard")  # nothing to show before there are services
    for board in boards.values():
        assert board["mosaicLayout"]["tiles"][0]["widget"]["text"]["format"] == "MARKDOWN"
        for path in re.findall(r"docs/[a-z/-]+\.md", board["mosaicLayout"]["tiles"][0]["widget"]["text"]["content"]):
            assert (CHECKOUT / path).exists(), path


def test_tiles_lie_beside_each_other(boards: dict[str, dict[str, Any]]) -> None:
    for name, board in boards.items():
        taken: set[tuple[int, int]] = set()
        for tile in board["mosaicLayout"]["tiles"]:
            left, top = tile.get("xPos", 0), tile.get("yPos", 0)
            cells = {(x, y) for x in range(left, left + tile["width"]) for y in range(top, top + tile["height"])}
            assert not cells & taken, name
            assert max(x for x, _ in cells) < board["mosaicLayout"]["columns"]
            taken |= cells


def test_every_metric_exists(boards: dict[str, dict[str, Any]], known: dict[str, dict[str, Any]]) -> None:
    for place, metric, resource, _ in queries(boards):
        assert metric in known, place
        assert known[metric]["of"] in (None, resource), place


def test_every_label_is_one_of_the_metric_or_of_its_resource(
    boards: dict[str, dict[str, Any]], known: dict[str, dict[str, Any]]
) -> None:
    for place, metric, resource, query in queries(boards):
        named = LABEL.findall(query["filter"] + " " + " ".join(query["aggregation"]["groupByFields"]))
        for part, quoted, plain in named:
            label = quoted or plain
            assert label in (known[metric]["labels"] if part == "metric" else OF_RESOURCES[resource]), (place, label)
        assert len(LABEL.findall(" ".join(query["aggregation"]["groupByFields"]))) == len(
            query["aggregation"]["groupByFields"]
        )


def test_points_are_combined_as_their_kind_allows(
    boards: dict[str, dict[str, Any]], known: dict[str, dict[str, Any]]
) -> None:
    for place, metric, _, query in queries(boards):
        how = query["aggregation"]["perSeriesAligner"], query["aggregation"]["crossSeriesReducer"]
        assert how in FITS[known[metric]["kind"]], place


def test_everything_that_we_count_is_shown(boards: dict[str, dict[str, Any]], known: dict[str, dict[str, Any]]) -> None:
    shown = {metric for _, metric, _, _ in queries(boards)}
    assert {metric for metric in known if metric.startswith(("prometheus.", "logging."))} <= shown


def test_both_promises_are_shown_with_what_is_left_of_them(boards: dict[str, dict[str, Any]], planned: Plan) -> None:
    filters = {query["filter"] for _, query in tiles(boards)}
    for slo in planned.resources("google_monitoring_slo").values():
        assert f'select_slo_budget_fraction("{slo["name"]}")' in filters


def test_alerts_and_promises_name_metrics_that_exist(planned: Plan, known: dict[str, dict[str, Any]]) -> None:
    """The same list for those who wake somebody."""
    kinds = ("google_monitoring_alert_policy", "google_monitoring_slo")
    text = json.dumps([planned.resources(kind) for kind in kinds]).replace('\\\\"', '"').replace('\\"', '"')
    named = set(re.findall(r'metric\.type ?= ?"([^"]+)"', text))
    assert len(named) > 10
    assert named <= known.keys()


def test_only_services_of_the_catalog_are_named() -> None:
    text = (CHECKOUT / "terraform/dashboards.yaml").read_text()
    catalog = yaml.safe_load((CHECKOUT / "functions/catalog.yaml").read_text())
    known = {*catalog["services"], *catalog["workloads"]}
    named = {
        name
        for given in re.findall(r"(?:service_name|labels\.job|backend_target_name)=\(?([^)'A]+)", text)
        for name in re.findall(r'"([a-z-]+)"', given)
    }
    assert {"sessions", "incidents", "exports-jobs"} <= named <= known
