"""The checklist against a project's APIs: what is well passes, what is not fails, what nobody answers is not known."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.preflight.apis import CATALOG, IMAGE, apis, well
from tools.preflight import __main__
from tools.preflight.google import APIS, Google
from tools.preflight.items import CHECKLIST, Context, Item, Status
from tools.terraform.plan import CHECKOUT

INSTANCE = "v1/projects/p/instances/main"
SERVICE = "v2/projects/p/locations/europe-west1/services/auth"
STAGING = "v2/projects/staging/locations/europe-west1/jobs/migrate/executions"
OCCURRENCES = "v1/projects/p/occurrences"
PLAN = {
    "variables": {"image": {"value": IMAGE}},
    "planned_values": {
        "root_module": {"resources": [{"type": "google_monitoring_alert_policy", "mode": "managed", "values": {}}] * 9}
    },
}
Spoil = Callable[[dict[str, Any]], object]


def item(beginning: str) -> Item:
    (found,) = [each for each in CHECKLIST.items if each.text.startswith(beginning)]
    return found


@pytest.fixture
def answers() -> dict[str, Any]:
    return well()


@pytest.fixture
def context(answers: dict[str, Any]) -> Iterator[Context]:
    with apis(answers) as url, requests.Session() as session:
        google = Google("p", "europe-west1", session, None, dict.fromkeys(APIS, url))
        yield Context(CHECKOUT, "production", CATALOG, PLAN, google, staging="staging")


FAULTS: dict[str, list[Spoil]] = {
    "Backups": [
        lambda a: a[INSTANCE]["settings"]["backupConfiguration"].update(pointInTimeRecoveryEnabled=False),
        lambda a: a[INSTANCE]["settings"]["backupConfiguration"].update(transactionLogRetentionDays=3),
        lambda a: a[INSTANCE]["settings"]["backupConfiguration"]["backupRetentionSettings"].update(retainedBackups=1),
        lambda a: a[f"{INSTANCE}/backupRuns"]["items"].pop(),
        lambda a: a[f"{INSTANCE}/backupRuns"]["items"][1].update(endTime="2026-01-01T00:00:00Z"),
    ],
    "The database is encrypted": [lambda a: a[INSTANCE].pop("diskEncryptionConfiguration")],
    "Migrations tested": [
        lambda a: a[STAGING]["executions"][0].pop("succeededCount"),
        lambda a: a[STAGING]["executions"][0]["template"]["containers"][0].update(image="i@sha256:00"),
        lambda a: a[STAGING]["executions"].clear(),
    ],
    "Monitoring": [
        lambda a: a["v3/projects/p/alertPolicies"].update(alertPolicies=[]),
        lambda a: a["v3/projects/p/alertPolicies"]["alertPolicies"][0].update(notificationChannels=[]),
        lambda a: a["v3/projects/p/uptimeCheckConfigs"].clear(),
    ],
    "Security scan": [
        lambda a: a[OCCURRENCES]["VULNERABILITY 2"]["occurrences"].append(
            {"noteName": "n/CVE-2", "vulnerability": {"effectiveSeverity": "CRITICAL"}}
        )
    ],
    "Every service": [
        lambda a: a[SERVICE]["template"]["containers"][0].update(image="another"),
        lambda a: a[SERVICE]["terminalCondition"].update(state="CONDITION_FAILED"),
        lambda a: a[SERVICE]["traffic"][0].update(type="TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"),
    ],
    "Rollback ready": [lambda a: a[SERVICE]["traffic"].pop()],
    "Logs flowing": [lambda a: a["v2/entries:list"].update(entries=[])],
    "Metrics visible": [lambda a: a["v3/projects/p/timeSeries"].clear()],
    "Database connections": [
        lambda a: a["v3/projects/p/timeSeries"].clear(),
        lambda a: a["v3/projects/p/timeSeries"]["timeSeries"][0]["points"][0]["value"].update(int64Value="620"),
    ],
    "Errors tracked": [lambda a: a["v2/entries:list"].update(errors=True)],
}
EACH = [(text, number) for text, spoils in FAULTS.items() for number in range(len(spoils))]


@pytest.mark.parametrize("text", FAULTS)
def test_a_project_that_is_well_passes(context: Context, text: str) -> None:
    assert item(text)(context).status is Status.PASS, item(text)(context)


@pytest.mark.parametrize(("text", "number"), EACH)
def test_what_is_wrong_fails(context: Context, answers: dict[str, Any], text: str, number: int) -> None:
    FAULTS[text][number](answers)
    assert item(text)(context).status is Status.FAIL


@pytest.mark.parametrize("text", FAULTS)
def test_what_the_caller_may_not_ask_is_not_known(context: Context, answers: dict[str, Any], text: str) -> None:
    answers.clear()
    assert item(text)(context).status is Status.UNKNOWN


@pytest.mark.parametrize("text", FAULTS)
def test_an_answer_of_another_form_is_not_known(context: Context, answers: dict[str, Any], text: str) -> None:
    for path in answers:
        answers[path] = ["another form"]
    assert item(text)(context).status is Status.UNKNOWN


def test_an_image_that_was_not_scanned_yet_is_not_known(context: Context, answers: dict[str, Any]) -> None:
    answers[OCCURRENCES]["DISCOVERY"]["occurrences"].clear()
    assert item("Security scan")(context).status is Status.UNKNOWN


def test_nothing_passes_that_was_not_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """No plan, no project, no deployment: what is left is what files say."""
    empty = Context(CHECKOUT, "production", CATALOG)
    passed = {each.text for each in CHECKLIST.items if each(empty).status is Status.PASS}
    assert passed <= {"Disaster recovery plan documented, with measured times", "Rollback plan ready"}
    assert __main__.report(empty, strict=True) == 1
    assert "NOT KNOWN" in capsys.readouterr().out
