"""The checklist on variables and plan: placeholders are refused, and whatever the plan would open."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.preflight.apis import CATALOG, IMAGE
from tests.preflight.test_project import item
from tests.terraform.plans import plan
from tools.preflight.items import Context, Status
from tools.preflight.offline import STATED
from tools.terraform.plan import CHECKOUT

Resources = list[dict[str, Any]]


@pytest.fixture(scope="module")
def planned() -> dict[str, Any]:
    return plan("production").json


def of(resources: Resources, kind: str) -> Resources:
    return [each["values"] for each in resources if each["type"] == kind]


def context(planned: dict[str, Any], change: Callable[[Resources], object] = lambda resources: None) -> Context:
    changed = copy.deepcopy(planned)
    change(changed["planned_values"]["root_module"]["resources"])
    return Context(CHECKOUT, "production", CATALOG, changed)


def test_the_variables_of_the_repository_are_a_template(planned: dict[str, Any]) -> None:
    finding = item("Environment variables")(context(planned))
    assert finding.status is Status.FAIL
    assert "domain holds a placeholder" in finding.seen
    assert "image is a digest of zeros" in finding.seen


def test_a_deployment_of_ones_own_passes(planned: dict[str, Any]) -> None:
    own = copy.deepcopy(planned)
    own["variables"] = {
        name: {"value": "ours" if "example.com" in str(each.get("value")) else each.get("value")}
        for name, each in planned["variables"].items()
    }
    own["variables"]["image"] = {"value": IMAGE}
    own["variables"]["settings"] = {"value": dict.fromkeys(STATED, "stated")}
    assert item("Environment variables")(context(own)).status is Status.PASS
    own["variables"]["settings"]["value"].pop("DPO_CONTACT")
    assert "DPO_CONTACT" in item("Environment variables")(context(own)).seen
    for url, said in (("smtp://relay", True), ("smtp://us@relay", False), ("smtps://relay", False)):
        own["variables"]["settings"]["value"]["SMTP_URL"] = url
        assert ("without TLS" in item("Environment variables")(context(own)).seen) is said


FAULTS: dict[str, Callable[[Resources], object]] = {
    "No credentials": lambda r: of(r, "google_cloud_run_v2_service")[0]["template"][0]["containers"][0]["env"].append(
        {"name": "SMTP_PASSWORD", "value": "x"}
    ),
    "No credentials in": lambda r: of(r, "google_cloud_run_v2_service")[0]["template"][0]["containers"][0][
        "env"
    ].append(
        {"name": "SMTP_URL", "value": "smtps://us:word@relay"}  # pragma: allowlist secret
    ),
    "The configuration": lambda r: r.clear(),
    "Database encryption, private": lambda r: of(r, "google_sql_database_instance")[0].update(
        deletion_protection=False
    ),
    "Database encryption,": lambda r: of(r, "google_sql_database_instance")[0].update(encryption_key_name=None),
    "Database encryption": lambda r: r.__setitem__(slice(None), [e for e in r if "sql_database_i" not in e["type"]]),
    "Firewall": lambda r: [
        each["allow"][0].update(ports=["443", "22"])
        for each in of(r, "google_compute_firewall")
        if each.get("allow") and "0.0.0.0/0" in (each.get("source_ranges") or [])
    ],
    "Firewall:": lambda r: of(r, "google_compute_firewall")[0].update(
        direction="INGRESS", source_ranges=["::/0"], deny=[], allow=[{"protocol": "tcp", "ports": ["22"]}]
    ),
    "Static files": lambda r: of(r, "google_storage_bucket")[0].update(public_access_prevention="inherited"),
}


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("Disaster recovery", "docs/runbooks/restore.md"),
        ("Disaster recovery", "docs/restore-drill.md"),
        ("Rollback plan", "docs/runbooks/rollback.md"),
        ("Rollback plan", "docs/runbooks/deploy.md"),
    ],
)
def test_a_plan_that_nobody_wrote_fails(tmp_path: Path, text: str, page: str) -> None:
    assert item(text)(Context(CHECKOUT, "production", CATALOG)).status is Status.PASS
    shutil.copytree(CHECKOUT / "docs", tmp_path / "docs")
    (tmp_path / page).write_text("# To be written")
    finding = item(text)(Context(tmp_path, "production", CATALOG))
    assert finding.status is Status.FAIL
    assert page in finding.seen


@pytest.mark.parametrize("text", FAULTS)
def test_the_plan_passes_and_a_wrong_one_fails(planned: dict[str, Any], text: str) -> None:
    assert item(text)(context(planned)).status is Status.PASS
    assert item(text)(context(planned, FAULTS[text])).status is Status.FAIL
