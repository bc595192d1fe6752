"""Logs: which bucket keeps what for how long, what is kept nowhere, and whose access to data is recorded."""

import json
import re
from itertools import chain
from typing import Any

import pytest

from common import consents, log, tokens
from local.layout import catalog, workloads
from local.logging_query import Entry
from tests.conftest import CHECKOUT
from tests.terraform.logs import entry, matches
from tests.terraform.plans import Plan, plan

ENVIRONMENTS = ["production", "staging", "foundation"]
ALL = ("ADMIN_READ", "DATA_READ", "DATA_WRITE")
AUDITED = {
    "cloudkms.googleapis.com": ALL,
    "cloudsql.googleapis.com": ALL,
    "iam.googleapis.com": ("ADMIN_READ", "DATA_READ"),
    "logging.googleapis.com": ("DATA_READ",),
    "secretmanager.googleapis.com": ALL,
    "storage.googleapis.com": ALL,
}


@pytest.fixture(params=ENVIRONMENTS)
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def buckets(planned: Plan) -> dict[str, dict[str, Any]]:
    return {each["bucket_id"]: each for each in planned.resources("google_logging_project_bucket_config").values()}


def kept(found: Entry, planned: Plan) -> list[str]:
    """The buckets that keep an entry, by the sinks of the plan; _Required is Google's own."""
    ids = {f"logging.googleapis.com/{values['id']}": name for name, values in buckets(planned).items()}
    places = [
        ids[sink["destination"]]
        for sink in planned.resources("google_logging_project_sink").values()
        if matches(sink["filter"], found)
        and not any(matches(exclusion["filter"], found) for exclusion in sink["exclusions"])
    ]
    required = re.search(r"%2F(activity|system_event|access_transparency)$", found["logName"])
    return places + (["_Required"] if required else [])


def audit(kind: str) -> Entry:
    return {
        "logName": f"projects/p/logs/cloudaudit.googleapis.com%2F{kind}",
        "resource": {"type": "cloudsql_database"},
        "severity": "INFO",
        "protoPayload": {},
    }


def request(url: str, kind: str = "http_load_balancer") -> Entry:
    return {
        "logName": "projects/p/logs/requests",
        "resource": {"type": kind},
        "severity": "INFO",
        "httpRequest": {"requestUrl": url},
    }


def test_general_logs_are_kept_30_days_and_those_of_security_90(planned: Plan) -> None:
    days = {name: values["retention_days"] for name, values in buckets(planned).items()}
    assert days == {"general": 30, "security": 90}


def test_the_register_says_the_same() -> None:
    text = (CHECKOUT / "docs/privacy/data-map.md").read_text()
    assert re.search(r"\| Logs, in Cloud Logging \|[^|]+\|[^|]+\| 30 days:", text)
    assert re.search(r"\| Security logs, [^|]+\|[^|]+\|[^|]+\| 90 days:", text)


def test_they_lie_in_our_region_under_our_key_and_stay(planned: Plan) -> None:
    key = planned.resource('google_kms_crypto_key.main["logging"]')["id"]
    for name, values in buckets(planned).items():
        assert values["location"] == planned.variables["region"]
        assert [each["kms_key_name"] for each in values["cmek_settings"]] == [key]
        assert not values.get("locked"), "that could never be taken back"
        text = (CHECKOUT / "terraform/logging.tf").read_text()
        block = text[text.index(f'resource "google_logging_project_bucket_config" "{name}"') :].partition("\n}")[0]
        assert "prevent_destroy = true" in block
        assert "google_kms_crypto_key_iam_member.agent" in block


def test_the_sink_that_every_project_has_leads_to_our_bucket(planned: Plan) -> None:
    sinks = {each["name"]: each for each in planned.resources("google_logging_project_sink").values()}
    assert set(sinks) == {"_Default", "security"}
    assert not any(each.get("disabled") for each in sinks.values())
    destination = f"logging.googleapis.com/{buckets(planned)['general']['id']}"
    assert sinks["_Default"]["destination"] == destination


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (audit("data_access"), ["security"]),
        (audit("policy"), ["security"]),
        (audit("activity"), ["_Required"]),
        (audit("system_event"), ["_Required"]),
        (audit("access_transparency"), ["_Required"]),
        (request("https://api.example.com/v1/projects?cursor=x"), ["general"]),
        (request("https://api.example.com/v1/auth/oidc/x/callback?state=a&code=b"), []),
        (request("https://api.example.com/v1/auth/oidc/x/callback?code=b", "cloud_run_revision"), []),
        (request("https://api.example.com/v1/tokens/token=x"), ["general"]),
    ],
    ids=range(9),
)
def test_nothing_is_kept_twice(planned: Plan, found: Entry, place: list[str]) -> None:
    assert kept(found, planned) == place


def test_what_the_product_says_of_security_is_kept_for_longer(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "settings", lambda: type("Settings", (), {"service": "auth"}))
    log.security("NOTICE", "log-in failed")
    log.entry("INFO", "request", status=200, code=None)
    log.entry("ERROR", "unexpected error", error="ValueError")
    lines = capsys.readouterr().out.splitlines()

    for kind in ("cloud_run_revision", "k8s_container"):
        assert [kept(entry(line, kind), planned) for line in lines] == [["security"], ["general"], ["general"]]


@pytest.mark.parametrize("kind", ["http_load_balancer", "api", "cloud_run_revision"])
def test_no_log_holds_a_link_to_unsubscribe(planned: Plan, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whoever reads the logs could use it: the product's own link, in every log of requests."""
    monkeypatch.setattr(consents, "settings", lambda: type("Settings", (), {"public_url": "https://api.example.com"}))
    monkeypatch.setattr(tokens, "mac", lambda *_said: "mac")
    link = consents.link(consents.Withdrawal("account", "organization", "newsletter"))

    assert kept(request(link, kind), planned) == []


@pytest.mark.parametrize("kind", ["http_load_balancer", "api", "cloud_run_revision"])
@pytest.mark.parametrize("address", ["deletions/id/status?receipt=secret", "incidents/id/scope?limit=9&ip=192.0.2.7"])
def test_no_log_holds_what_an_address_gives_away(planned: Plan, address: str, kind: str) -> None:
    assert kept(request(f"https://api.example.com/v1/{address}", kind), planned) == []


# Who reached data


def audited(planned: Plan) -> dict[str, list[dict[str, Any]]]:
    return {
        each["service"]: each["audit_log_config"]
        for each in planned.resources("google_project_iam_audit_config").values()
    }


def test_access_to_data_past_our_services_is_recorded(planned: Plan) -> None:
    found = {service: {each["log_type"] for each in types} for service, types in audited(planned).items()}
    assert found == {service: set(types) for service, types in AUDITED.items()}


def test_only_the_search_for_an_erased_person_is_not(planned: Plan) -> None:
    """Its filter is made of what must stand nowhere, and the record of a search holds its filter."""
    readers = [name for name, entry in (catalog() | workloads()).items() if entry.get("reads_logs")]
    members = {planned.resource(f'google_service_account.main["{name}"]')["member"] for name in readers}
    assert readers
    for service, types in audited(planned).items():
        exempted = set(chain.from_iterable(each["exempted_members"] or [] for each in types))
        assert exempted == (members if service == "logging.googleapis.com" else set())


# The evaluator that these tests rest on


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('jsonPayload.code="a"', True),
        ('jsonPayload.code="A"', True),
        ('jsonPayload.code="ab"', False),
        ('jsonPayload.code:"a"', True),
        ('jsonPayload.code=("x" OR "a")', True),
        ('jsonPayload.nothing="a"', False),
        ('NOT jsonPayload.nothing="a"', True),
        ("jsonPayload.status=401", True),
        ("severity>=ERROR", False),
        ("severity>=NOTICE", True),
        ('jsonPayload.code="x" AND jsonPayload.code="y" OR jsonPayload.code="a"', False),  # OR binds closer
        ('(jsonPayload.code="x" AND jsonPayload.code="y") OR jsonPayload.code="a"', True),
        ('jsonPayload.code=~"^[ab]$"', True),
        ('log_id("run.googleapis.com/stdout")', True),
    ],
)
def test_the_evaluator_understands(text: str, expected: bool) -> None:
    line = json.dumps({"severity": "NOTICE", "message": "m", "code": "a", "status": 401})
    assert matches(text, entry(line)) is expected


@pytest.mark.parametrize(
    "text", ["", "jsonPayload.code", 'jsonPayload.code="a" AND', '(severity="INFO"', 'a="b" c="d"']
)
def test_the_evaluator_refuses_what_it_does_not_understand(text: str) -> None:
    with pytest.raises(ValueError, match=r"understood|missing|comparison"):
        matches(text, entry('{"severity": "INFO"}'))
