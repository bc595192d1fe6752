"""Alerts: that each fires on what the product really writes, reaches people, and says what to do."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from common.errors import CODES
from local.logging_query import Entry
from tests.conftest import CHECKOUT
from tests.structure.sources import python_of, tree_of
from tests.terraform.logs import entry, matches
from tests.terraform.plans import Plan, plan

CHILD = """
import json, sys
from pg8000.exceptions import DatabaseError
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request
from common import db, errors, log
from common.http import Routes
from common.tokens import Claim

routes = Routes("projects")

def refuse(call):
    raise errors.Problem(call.path["code"])

routes.on("GET", "/v1/refusals/<code>", needs="public", body=None, answers=None)(refuse)
routes.on("GET", "/v1/broken", needs="public", body=None, answers=None)(lambda call: {}["nothing"])
routes.on("POST", "/internal/x", needs="service:scheduler", body=None, answers=None)(lambda call: None)

def ask(path, method="GET", edge="edge"):
    routes.answer(Request(EnvironBuilder(path=path, method=method, headers={"X-Edge-Key": edge}).get_environ()))

for code in errors.CODES:
    ask("/v1/refusals/" + code)
ask("/health/")
ask("/v1/nothing")
ask("/v1/nothing", edge="")
ask("/v1/nothing", edge="forged")
ask("/internal/x", "POST")
ask("/v1/broken")
db._as_problem(DatabaseError({"C": "57014"}), Claim("u"))
db._as_problem(DatabaseError({"C": "40P01"}), Claim("u"))
for kind, severity, message in json.loads(sys.argv[1]):
    getattr(log, kind)(severity, message)
"""

FAILED_LOG_INS = {
    "account_locked",
    "invalid_code",
    "invalid_credentials",
    "oidc_denied",
    "oidc_invalid",
    "oidc_not_linked",
}
UNAUTHORIZED = {
    "csrf_failed",
    "forbidden",
    "invalid_token",
    "permission_denied",
    "refresh_token_reused",
    "signature_invalid",
}

# Lines that alerts are about: where the product writes them, how, and which alert each raises.
SPOKEN = [
    ("functions/retention/chain.py", "security", "CRITICAL", "an audit chain is broken", "broken_chain"),
    ("common/db.py", "security", "CRITICAL", "an audit chain takes no event", "broken_chain"),
    ("common/refusals.py", "security", "CRITICAL", "an audit chain takes no event", "broken_chain"),
    ("common/anchors.py", "security", "CRITICAL", "an object among the anchors is not ours", "broken_chain"),
    ("functions/retention/desk.py", "entry", "CRITICAL", "a job gets no further", "stuck_jobs"),
    ("functions/retention/desk.py", "entry", "WARNING", "a job starts anew", None),
    ("functions/retention/desk.py", "entry", "CRITICAL", "a request is overdue", "overdue_requests"),
    ("functions/retention/desk.py", "entry", "CRITICAL", "a request is due soon", "overdue_requests"),
    ("functions/retention/desk.py", "entry", "WARNING", "a request is due soon", None),
    ("functions/retention/desk.py", "security", "CRITICAL", "the 72 hours of an incident are over", "incident_clock"),
    (
        "functions/retention/desk.py",
        "security",
        "CRITICAL",
        "the 72 hours of an incident are over within a day",
        "incident_clock",
    ),
    ("functions/deletions/steps.py", "entry", "ERROR", "an erasure failed", "erasures"),
    ("functions/deletions/steps.py", "entry", "CRITICAL", "an erasure left rows", "erasures"),
    ("functions/deletions/steps.py", "entry", "CRITICAL", "the database does not know these tables", "erasures"),
    (
        "functions/deletions/processors.py",
        "entry",
        "CRITICAL",
        "a processor could not be told of an erasure",
        "erasures",
    ),
    ("functions/deletions/processors.py", "entry", "WARNING", "a processor took no message", None),
    (
        "functions/deletions/scanning.py",
        "entry",
        "CRITICAL",
        "the logs hold what identifies an erased person",
        "erasures",
    ),
    ("functions/incidents/answering.py", "security", "CRITICAL", "an alert was answered", "answered"),
    ("functions/incidents/answering.py", "security", "ERROR", "an alert could not be answered", "unanswered"),
    ("functions/incidents/answering.py", "security", "WARNING", "a message on the topic of alerts is none", None),
    ("functions/keys/running.py", "entry", "ERROR", "a secret could not be rotated", "keys_not_turned"),
    ("functions/keys/running.py", "security", "NOTICE", "keys rotated", None),
    (
        "common/secrets.py",
        "entry",
        "WARNING",
        "a secret cannot be read, the one from before counts",
        "keys_not_turned",
    ),
    ("common/limits.py", "entry", "ERROR", "no rate limits: the cache cannot be reached", "cache"),
    ("common/limits.py", "entry", "NOTICE", "rate limits count again", None),
    ("sessions/link.py", "entry", "ERROR", "the cache cannot be reached", "cache"),
    ("common/db.py", "security", "CRITICAL", "a pooled connection was tampered with", "critical"),
    ("common/db.py", "security", "CRITICAL", "the database login is refused", "critical"),
    ("sessions/app.py", "entry", "CRITICAL", "a task of the replica has ended", "critical"),
    ("functions/auth/sign_in.py", "security", "NOTICE", "log-in failed", None),
]

# What Google writes.
EVENT = {"logName": "projects/p/logs/events", "resource": {"type": "k8s_cluster"}, "severity": "WARNING"}
FOREIGN: list[tuple[Entry, set[str]]] = [
    (EVENT | {"jsonPayload": {"involvedObject": {"kind": "ExternalSecret"}, "type": "Warning"}}, {"external_secret"}),
    (EVENT | {"jsonPayload": {"involvedObject": {"kind": "ExternalSecret"}, "type": "Normal"}}, set()),
    (EVENT | {"jsonPayload": {"involvedObject": {"kind": "Pod"}, "type": "Warning"}}, set()),
    (
        {
            "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
            "resource": {"type": "cloudkms_cryptokeyversion"},
            "severity": "NOTICE",
            "protoPayload": {"serviceName": "cloudkms.googleapis.com", "methodName": "DestroyCryptoKeyVersion"},
        },
        {"keys_destroyed"},
    ),
    (
        {
            "logName": "projects/p/logs/cloudscheduler.googleapis.com%2Fexecutions",
            "resource": {"type": "cloud_scheduler_job"},
            "severity": "ERROR",
        },
        {"schedule_failures"},
    ),
    (
        {
            "logName": "projects/p/logs/cloudscheduler.googleapis.com%2Fexecutions",
            "resource": {"type": "cloud_scheduler_job"},
            "severity": "INFO",
        },
        set(),
    ),
]


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


@cache
def filters() -> dict[str, str]:
    """Alert or metric → its filter, as the plan of production has it."""
    made = plan("production")
    metrics = {values["name"]: values["filter"] for values in made.resources("google_logging_metric").values()}
    alerts = {
        name: condition["condition_matched_log"][0]["filter"]
        for name, policy in policies(made).items()
        for condition in policy["conditions"]
        if condition["condition_matched_log"]
    }
    assert not metrics.keys() & alerts.keys()
    return metrics | alerts


def policies(planned: Plan) -> dict[str, dict[str, Any]]:
    found = planned.resources("google_monitoring_alert_policy")
    return {re.findall(r'"(.*)"', address)[0]: values for address, values in found.items()}


def raised(found: Entry) -> set[str]:
    return {name for name, text in filters().items() if matches(text, found)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Entries that the product's own code wrote: requests first, in the order of CHILD, then what is SPOKEN."""
    folder: Path = tmp_path_factory.mktemp("secrets")
    (folder / "edge-key").write_text("edge")
    names = dict.fromkeys(("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"), "http://localhost")
    spoken = json.dumps([line[1:4] for line in SPOKEN])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, spoken],
        cwd=CHECKOUT,
        env=names | {"PATH": "/usr/bin", "SERVICE": "projects", "SECRETS_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [entry(line) for line in done.stdout.splitlines()]


def requests(written: list[Entry]) -> Iterator[dict[str, Any]]:
    return (found for found in written if found["jsonPayload"]["message"] == "request")


# What the product writes


def test_a_refusal_names_its_code_in_the_log(written: list[Entry]) -> None:
    told = [found["jsonPayload"] for found in requests(written)]

    assert [line["code"] for line in told[: len(CODES)]] == list(CODES)
    assert [line["code"] for line in told[len(CODES) :]] == [
        None,
        "not_found",
        "forbidden",
        "forbidden",
        "invalid_token",
        "internal_error",
    ]


def test_refusals_are_counted_for_what_they_are(written: list[Entry]) -> None:
    for found in list(requests(written))[: len(CODES)]:
        code = found["jsonPayload"]["code"]
        expected = {
            name
            for name, codes in {
                "failed_log_ins": FAILED_LOG_INS,
                "unauthorized": UNAUTHORIZED,
                "rate_limited": {"rate_limited"},
            }.items()
            if code in codes
        }
        assert raised(found) == expected, code


def test_who_comes_past_the_door_raises_an_alert(written: list[Entry]) -> None:
    told = list(requests(written))[len(CODES) :]
    assert [raised(each) for each in told] == [
        set(),
        set(),
        {"unauthorized"},  # whoever finds the gateway's own address has no key at all: that wakes nobody
        {"unauthorized"},
        {"forged", "unauthorized"},
        set(),
    ]
    (shown,) = [each for each in written if each["jsonPayload"]["message"] == "a wrong edge key was shown"]
    assert raised(shown) == {"forged"}


def test_alerts_come_after_the_metrics_that_they_ask_for() -> None:
    """Monitoring refuses a policy about a metric of a few minutes' age."""
    foundation = plan("foundation")
    assert (
        foundation.resources("google_logging_metric").keys()
        == plan("production").resources("google_logging_metric").keys()
    )
    assert not foundation.resources("google_monitoring_alert_policy")


def test_defects_and_timeouts_are_counted(written: list[Entry]) -> None:
    others = [found for found in written if found["jsonPayload"]["message"] != "request"]
    counted = {
        found["jsonPayload"]["message"] + str(found["jsonPayload"].get("code")): raised(found) for found in others
    }

    assert counted["unexpected error"] == {"defects"}
    assert counted["database not available57014"] == {"query_timeouts"}
    assert counted["database not available40P01"] == set()


@pytest.mark.parametrize("number", range(len(SPOKEN)), ids=[f"{line[2]} {line[3]}" for line in SPOKEN])
def test_a_line_raises_its_alert_and_no_other(written: list[Entry], number: int) -> None:
    source, _, severity, message, alert = SPOKEN[number]
    found = written[len(written) - len(SPOKEN) + number]

    assert found["jsonPayload"]["message"] == message
    assert message in constants(source)
    assert severity in constants(source)
    assert raised(found) == ({alert} if alert else set())


@cache
def constants(path: str) -> set[str]:
    tree = ast.parse((CHECKOUT / path).read_text())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize(("found", "expected"), FOREIGN, ids=range(len(FOREIGN)))
def test_what_google_writes_raises_its_alert(found: Entry, expected: set[str]) -> None:
    assert raised(found) == expected


@pytest.mark.parametrize("path", python_of("common", "functions", "sessions"), ids=str)
def test_no_critical_line_goes_unheard(path: str) -> None:
    """Each CRITICAL line of the product raises exactly one alert, the next one that somebody adds as well."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("log.entry", "log.security"):
            severity, message = (each.value if isinstance(each, ast.Constant) else None for each in node.args[:2])
            if severity == "CRITICAL" and message:
                line = json.dumps({"severity": severity, "message": message, "service": "x"})
                for resource in ("cloud_run_revision", "cloud_run_job", "k8s_container"):
                    assert len(raised(entry(line, resource))) == 1, message


# Who hears of it, and what they read


def test_the_four_alerts_of_the_guide() -> None:
    found = policies(plan("production"))
    first = found["failed_log_ins"]["conditions"][0]["condition_threshold"][0]

    assert {"failed_log_ins", "unauthorized", "query_timeouts", "abnormal_usage"} <= set(found)
    assert (first["comparison"], first["threshold_value"]) == ("COMPARISON_GT", 5)
    aggregation = first["aggregations"][0]
    assert (aggregation["alignment_period"], aggregation["per_series_aligner"]) == ("60s", "ALIGN_DELTA")
    assert aggregation["cross_series_reducer"] == "REDUCE_SUM"


@pytest.mark.parametrize("environment", ["production", "staging", "foundation"])
def test_every_alert_says_what_to_do(environment: str) -> None:
    for name, policy in policies(plan(environment)).items():
        content = policy["documentation"][0]["content"]
        means, first, rest = content.split("\n\n")
        paths = re.findall(r"`(docs/[^`]+)`", rest)
        assert len(means) > 40, name
        assert first.startswith("**First:** "), name
        assert paths[-1] == "docs/alerts.md", name
        assert [path for path in paths if not (CHECKOUT / path).exists()] == [], name
        assert policy["severity"] in {"CRITICAL", "ERROR", "WARNING"}, name
        assert policy["enabled"] is True, name
        assert policy["alert_strategy"][0]["auto_close"] == "86400s", name
        assert policy["notification_channels"], name


def test_a_log_alert_tells_once_an_hour(planned: Plan) -> None:
    for policy in policies(planned).values():
        conditions = policy["conditions"]
        limit = policy["alert_strategy"][0]["notification_rate_limit"]
        if any(condition["condition_matched_log"] for condition in conditions):
            assert len(conditions) == 1
            assert limit == [{"period": "3600s"}]
        else:
            assert limit == []


def test_what_cannot_wait_wakes_somebody() -> None:
    made = plan("production")
    channels = made.resources("google_monitoring_notification_channel")
    ids = {values["type"]: values["id"] for values in channels.values()}
    assert set(ids) == {"email", "slack", "pagerduty", "pubsub"}
    for name, policy in policies(made).items():
        told = set(policy["notification_channels"])
        assert told == set(ids.values()) - (set() if policy["severity"] == "CRITICAL" else {ids["pagerduty"]}), name
        assert "OPENED" in policy["alert_strategy"][0]["notification_prompts"], name


def test_no_key_of_a_channel_is_in_the_plan() -> None:
    made = plan("production")
    for name, secret in {"slack": "slack-token", "pagerduty": "pagerduty-key"}.items():
        values = made.resource(f'google_monitoring_notification_channel.main["{name}"]')
        assert not any((values["sensitive_labels"][0] or {}).get(each) for each in ("auth_token", "service_key"))
        assert not any(value for key, value in values["sensitive_labels"][0].items() if key.endswith("_wo"))
        assert f'google_secret_manager_secret.main["{secret}"]' in made.addresses
    text = (CHECKOUT / "terraform/channels.tf").read_text()
    assert set(re.findall(r"\n +(auth_token\w*|service_key\w*|password\w*) +=", text)) == {
        "auth_token_wo",
        "auth_token_wo_version",
        "service_key_wo",
        "service_key_wo_version",
    }
    assert not re.search(r'^data "google_secret_manager', text, re.MULTILINE)


def test_channels_with_a_key_wait_for_the_key() -> None:
    for made in (plan("foundation"), plan("production", services=False)):
        kinds = {values["type"] for values in made.resources("google_monitoring_notification_channel").values()}
        assert kinds == {"email", "pubsub"}


def test_programs_hear_of_alerts(planned: Plan) -> None:
    topic = planned.resource('google_pubsub_topic.main["alerts"]')["id"]
    channel = planned.resource('google_monitoring_notification_channel.main["pubsub"]')
    assert channel["labels"] == {"topic": topic}
    agent = planned.resource("google_project_service_identity.monitoring")
    right = planned.resource("google_pubsub_topic_iam_member.alerts")
    assert (right["topic"], right["role"], right["member"]) == (topic, "roles/pubsub.publisher", agent["member"])


# What is measured


def thresholds(planned: Plan) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [each["condition_threshold"][0] for each in policy["conditions"] if each["condition_threshold"]]
        for name, policy in policies(planned).items()
    }


def test_a_condition_names_a_metric_and_a_resource(planned: Plan) -> None:
    metrics = {values["name"] for values in planned.resources("google_logging_metric").values()}
    used = set()
    for name, conditions in thresholds(planned).items():
        for condition in conditions:
            text = condition["filter"]
            if text.startswith("select_slo_burn_rate("):
                continue
            assert re.search(r'resource\.type ?= ?("|one_of\()', text), name
            kind = re.findall(r'metric\.type="([^"]+)"', text)
            assert len(kind) == 1, name
            used |= {kind[0].removeprefix("logging.googleapis.com/user/")}
            assert condition["aggregations"], name
    assert metrics <= used


def test_what_is_promised_and_how_fast_it_may_burn() -> None:
    made = plan("production")
    goals = {values["slo_id"]: values for values in made.resources("google_monitoring_slo").values()}
    assert {name: values["goal"] for name, values in goals.items()} == {"availability": 0.999, "latency": 0.99}
    assert {values["rolling_period_days"] for values in goals.values()} == {28}
    assert "sessions" in goals["latency"]["request_based_sli"][0]["distribution_cut"][0]["distribution_filter"]
    for name, goal in goals.items():
        for speed, (rate, windows) in {"fast": (14.4, ("3600s", "300s")), "slow": (6, ("21600s", "1800s"))}.items():
            policy = policies(made)[f"{name}_burn_{speed}"]
            found = thresholds(made)[f"{name}_burn_{speed}"]
            assert policy["combiner"] == "AND"
            assert {each["threshold_value"] for each in found} == {rate}
            assert [each["filter"] for each in found] == [
                f'select_slo_burn_rate("{goal["name"]}", "{window}")' for window in windows
            ]
    assert policies(made)["availability_burn_fast"]["severity"] == "CRITICAL"


@pytest.mark.parametrize(
    ("name", "metric"),
    {
        "secrets_by_hand": "pubsub.googleapis.com/subscription/num_undelivered_messages",  # pragma: allowlist secret
        "server_errors": "loadbalancing.googleapis.com/https/request_count",
        "queue_depth": "cloudtasks.googleapis.com/queue/depth",
        "workflow_failures": "workflows.googleapis.com/finished_execution_count",
        "job_failures": "run.googleapis.com/job/completed_execution_count",
        "database_disk": "cloudsql.googleapis.com/database/disk/bytes_used",
        "database_cpu": "cloudsql.googleapis.com/database/cpu/utilization",
        "database_connections": "cloudsql.googleapis.com/database/postgresql/num_backends",
        "replica_lag": "cloudsql.googleapis.com/database/replication/replica_lag",
        "cache_memory": "memorystore.googleapis.com/instance/memory/maximum_utilization",
        "pods_restart": "kubernetes.io/container/restart_count",
        "uptime_alive": "monitoring.googleapis.com/uptime_check/check_passed",
        "uptime_ready": "monitoring.googleapis.com/uptime_check/check_passed",
    }.items(),
)
def test_what_runs_is_watched(name: str, metric: str) -> None:
    assert f'metric.type="{metric}"' in thresholds(plan("production"))[name][0]["filter"]


def test_limits_come_from_what_they_are_limits_of(planned: Plan) -> None:
    found = thresholds(planned)
    flags = planned.resource("google_sql_database_instance.main")["settings"][0]
    connections = next(int(each["value"]) for each in flags["database_flags"] if each["name"] == "max_connections")
    assert found["database_connections"][0]["threshold_value"] == connections * 0.8
    assert found["database_disk"][0]["threshold_value"] == flags["disk_autoresize_limit"] * 2**30 * 0.8
    waits = planned.resource("google_pubsub_subscription.secret_rotation")["name"]
    assert f'subscription_id="{waits}"' in found["secrets_by_hand"][0]["filter"]
    assert ("replica_lag" in found) == (planned.variables["replica_region"] is not None)


def test_the_session_api_is_watched_as_its_page_says(planned: Plan) -> None:
    """docs/sessions-on-gke.md: pods that restart, ExternalSecret not Ready, fewer than two endpoints, 5xx."""
    found = policies(planned)
    assert {"pods_restart", "external_secret", "few_endpoints", "server_errors"} <= set(found)
    query = found["few_endpoints"]["conditions"][0]["condition_prometheus_query_language"][0]["query"]
    deployment = (CHECKOUT / "sessions/k8s/base/deployment.yaml").read_text()
    assert 'deployment="sessions"' in query
    assert re.search(r"name: sessions\n\s+namespace: dev-context", deployment)
    assert (
        "DEPLOYMENT" in planned.resource("google_container_cluster.main")["monitoring_config"][0]["enable_components"]
    )
    by = thresholds(planned)["server_errors"][0]["aggregations"][0]["group_by_fields"]
    assert by == ["resource.label.backend_target_name"]


# docs/alerts.md


def test_the_page_is_what_is_planned() -> None:
    text = (CHECKOUT / "docs/alerts.md").read_text()
    rows = set(
        re.findall(r"^\| (.+) \| (CRITICAL|ERROR|WARNING) \| (.+) \| (.+) \| \[.*\]\((.+)\) \|$", text, re.MULTILINE)
    )
    wanted = set()
    for policy in policies(plan("production")).values():
        means, first, rest = policy["documentation"][0]["content"].split("\n\n")
        path = re.findall(r"`docs/([^`]+)`", rest)[0]
        wanted.add((policy["display_name"], policy["severity"], means, first.removeprefix("**First:** "), path))
    assert rows == wanted
