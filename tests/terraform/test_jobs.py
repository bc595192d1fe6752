"""Cloud Run jobs: what the catalog lists, with the rights of an account and the secrets that it names."""

from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from common.settings import Settings
from tests.terraform.plans import Plan, plan
from tests.terraform.test_services import DOCUMENTED
from tools.terraform.plan import CHECKOUT

CATALOG: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
JOBS, SERVICES = CATALOG["jobs"], CATALOG["services"]
KNOWN = {field.name.upper() for field in fields(Settings)} | {"DATABASE_ADMIN_URL", "LOGIN_PATTERN"}


@pytest.fixture(scope="module", params=["staging", "production"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def jobs(planned: Plan) -> dict[str, dict[str, Any]]:
    """Each job's only task, by the job's name."""
    made = planned.resources("google_cloud_run_v2_job").values()
    return {each["name"]: each["template"][0]["template"][0] for each in made}


def container(task: dict[str, Any]) -> dict[str, Any]:
    (found,) = task["containers"]
    return dict(found)


def environment(task: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(task)["env"]}


def test_each_job_of_the_catalog_runs_its_module_from_the_image_of_the_services(planned: Plan) -> None:
    assert jobs(planned).keys() == JOBS.keys()
    for name, task in jobs(planned).items():
        assert container(task)["image"] == planned.variables["image"]
        assert container(task)["command"] == ["/usr/bin/python3", "-m", JOBS[name]["module"]]
        assert not container(task).get("args")  # an execution gives its own, and cannot give another command
        assert find_spec(JOBS[name]["module"])


def test_none_is_run_twice_by_itself_or_for_ever(planned: Plan) -> None:
    for job in planned.resources("google_cloud_run_v2_job").values():
        assert (job["template"][0]["task_count"], job["template"][0]["parallelism"]) == (1, 1)
        assert job["deletion_protection"] is True
    for name, task in jobs(planned).items():
        assert task.get("max_retries", 0) == 0
        assert task["timeout"] == f"{JOBS[name]['timeout_seconds']}s"


def test_account_network_key_and_check_are_those_of_the_services(planned: Plan) -> None:
    private = planned.resource("google_compute_subnetwork.private")["id"]
    key = planned.resource('google_kms_crypto_key.main["run"]')["id"]
    for job in planned.resources("google_cloud_run_v2_job").values():
        assert [each["use_default"] for each in job["binary_authorization"]] == [True]
    for name, task in jobs(planned).items():
        assert task["service_account"].split("@")[0] == f"dc-{JOBS[name]['account']}"
        assert task["encryption_key"] == key
        ((access,),) = [task["vpc_access"]]
        assert access["egress"] == "ALL_TRAFFIC"
        assert [each["subnetwork"] for each in access["network_interfaces"]] == [private]


def test_none_mounts_a_secret_which_would_need_a_version_before_the_first_keys_are_made(planned: Plan) -> None:
    for task in jobs(planned).values():
        assert not task.get("volumes")
        assert not container(task).get("volume_mounts")
        assert not any(each.get("value_source") for each in container(task)["env"])


def test_the_first_keys_are_made_by_the_account_that_may() -> None:
    assert SERVICES[JOBS["first-keys"]["account"]]["secret_writer"]


def test_only_who_administers_gets_the_way_to(planned: Plan) -> None:
    instance = planned.resource("google_sql_database_instance.main")["connection_name"]
    project = planned.variables["project"]
    for name, task in jobs(planned).items():
        known, account = environment(task), JOBS[name]["account"]
        assert known.keys() <= KNOWN & DOCUMENTED
        url = f"cloudsql://{instance}/context?user=dc-{account}@{project}.iam"
        assert known["DATABASE_URL"] == url
        assert known.get("DATABASE_ADMIN_URL") == (url if "database" in JOBS[name] else None)
        assert known["LOGIN_PATTERN"] == f"dc-{{service}}@{project}.iam"
        assert known["SERVICE"] == (account if account in SERVICES else name)
        assert known["JWT_ALGORITHM"] == "RS256"


def test_before_the_first_image_there_is_none_and_before_the_services_all() -> None:
    assert jobs(plan("foundation")) == {}
    assert jobs(plan("production", services=False)).keys() == JOBS.keys()
