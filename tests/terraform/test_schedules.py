"""Queues, workflows and the schedule are those that the local cloud runs, with the identities of the catalog."""

import json
from typing import Any

import pytest
import yaml

from tests.terraform.plans import Plan, plan
from tools.terraform.plan import CHECKOUT

CATALOG: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
SERVICES = CATALOG["services"]
QUEUES = yaml.safe_load((CHECKOUT / "local" / "queues.yaml").read_text())["queues"]
SCHEDULE = {job["name"]: job for job in yaml.safe_load((CHECKOUT / "local" / "schedule.yaml").read_text())}


@pytest.fixture(scope="module", params=["staging", "production"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def url(service: str) -> str:
    return f"https://{service}-123456789012.europe-west1.run.app"


def test_queues(planned: Plan) -> None:
    made = {each["name"]: each for each in planned.resources("google_cloud_tasks_queue").values()}
    assert made.keys() == QUEUES.keys()
    for name, wanted in QUEUES.items():
        ((rate,), (retry,)) = made[name]["rate_limits"], made[name]["retry_config"]
        assert rate["max_dispatches_per_second"] == wanted["rate"]
        assert rate["max_concurrent_dispatches"] == wanted["concurrency"]
        assert retry["max_attempts"] == wanted["max_attempts"]
        assert retry["max_doublings"] == wanted["max_doublings"]
        assert (retry["min_backoff"], retry["max_backoff"]) == (
            f"{wanted['min_backoff']}s",
            f"{wanted['max_backoff']}s",
        )


def test_workflows_are_the_very_files(planned: Plan) -> None:
    made = {each["name"]: each for each in planned.resources("google_workflows_workflow").values()}
    files = {path.stem: path.read_text() for path in (CHECKOUT / "workflows").glob("*.yaml")}
    assert {name: each["source_contents"] for name, each in made.items()} == files
    account = planned.resource('google_service_account.main["workflows"]')["id"]
    key = planned.resource('google_kms_crypto_key.main["workflows"]')["id"]
    for each in made.values():
        assert (each["service_account"], each["crypto_key_name"]) == (account, key)
        assert each["deletion_protection"] is True
        assert each["call_log_level"] != "LOG_ALL_CALLS"


def test_workflows_know_the_services_that_they_may_call_and_use_no_other_name(planned: Plan) -> None:
    called = {name for name, entry in SERVICES.items() if "workflows" in entry["invokers"]}
    wanted = {f"{name.upper().replace('-', '_')}_URL": url(name) for name in called}
    for each in planned.resources("google_workflows_workflow").values():
        assert each["user_env_vars"] == wanted
        used = {part.split('"')[1] for part in each["source_contents"].split("sys.get_env(")[1:]}
        assert {name for name in used if not name.startswith("GOOGLE_CLOUD_")} <= wanted.keys()


def test_schedules(planned: Plan) -> None:
    made = {each["name"]: each for each in planned.resources("google_cloud_scheduler_job").values()}
    assert made.keys() == SCHEDULE.keys()
    account = planned.resource('google_service_account.main["scheduler"]')["email"]
    for name, wanted in SCHEDULE.items():
        ((target,), (retry,)) = made[name]["http_target"], made[name]["retry_config"]
        assert (made[name]["schedule"], made[name]["time_zone"]) == (wanted["schedule"], "Etc/UTC")
        assert made[name]["attempt_deadline"] == f"{wanted['attempt_deadline']}s"
        assert (retry["retry_count"], retry["min_backoff_duration"]) == (
            wanted["retry_count"],
            f"{wanted['min_backoff']}s",
        )
        assert (target["http_method"], target["uri"]) == ("POST", url(wanted["service"]) + wanted["path"])
        assert target["oidc_token"] == [{"audience": url(wanted["service"]), "service_account_email": account}]
        assert not target.get("oauth_token")


def test_who_is_called_by_the_scheduler_lets_it_in_and_has_the_time(planned: Plan) -> None:
    for job in SCHEDULE.values():
        assert "scheduler" in SERVICES[job["service"]]["invokers"]
        assert job["attempt_deadline"] <= SERVICES[job["service"]]["timeout_seconds"]


def test_no_secret_and_no_key_is_written_down_anywhere(planned: Plan) -> None:
    text = json.dumps([planned.resources(kind) for kind in ("google_cloud_tasks_queue", "google_cloud_scheduler_job")])
    assert "Authorization" not in text
    assert "private_key" not in text
