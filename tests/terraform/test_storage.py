"""Buckets: in the European Union, under our key, open to nobody, and forgetting what they are told to forget."""

from typing import Any

import pytest

from local.storage import buckets as local
from tests.terraform.plans import Plan, plan

DAY = 86_400
KEPT = {"exports": local.EXPORT_DAYS, "ledger": local.LEDGER_DAYS, "anchors": local.ANCHOR_DAYS}


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


def bucket(planned: Plan, name: str) -> dict[str, Any]:
    return planned.resource(f'google_storage_bucket.main["{name}"]')


def test_there_are_those_that_the_local_cloud_has(planned: Plan) -> None:
    """And one for the sources of builds."""
    names = {values["name"] for values in planned.resources("google_storage_bucket").values()}

    assert names == {f"{planned.variables['project']}-{name}" for name in [*KEPT, "sources"]}


@pytest.mark.parametrize("name", KEPT)
def test_nobody_gets_in_by_a_link_or_an_object(planned: Plan, name: str) -> None:
    values = bucket(planned, name)

    assert values["public_access_prevention"] == "enforced"
    assert values["uniform_bucket_level_access"] is True
    assert values["location"] == planned.variables["region"].upper()
    assert values["force_destroy"] is False


@pytest.mark.parametrize("name", KEPT)
def test_what_is_deleted_is_gone(planned: Plan, name: str) -> None:
    values = bucket(planned, name)

    assert values["versioning"] == [{"enabled": False}]
    assert values["soft_delete_policy"][0]["retention_duration_seconds"] == 0


@pytest.mark.parametrize("name", KEPT)
def test_lifecycle_removes_as_the_local_cloud_does(planned: Plan, name: str) -> None:
    rules = bucket(planned, name)["lifecycle_rule"]
    deleted = [rule["condition"][0]["age"] for rule in rules if rule["action"][0]["type"] == "Delete"]
    aborted = [rule for rule in rules if rule["action"][0]["type"] == "AbortIncompleteMultipartUpload"]

    assert deleted[0] in (KEPT[name], KEPT[name] + 1)  # a day more where a retention policy ends on that day
    assert len(deleted) == len(aborted) == 1


def test_anchors_are_locked_for_400_days(planned: Plan) -> None:
    assert bucket(planned, "anchors")["retention_policy"] == [{"is_locked": True, "retention_period": str(400 * DAY)}]


def test_the_ledger_is_kept_as_long_as_the_requests_are(planned: Plan) -> None:
    assert bucket(planned, "ledger")["retention_policy"] == [
        {"is_locked": False, "retention_period": str(local.LEDGER_DAYS * DAY)}
    ]


def test_copies_of_personal_data_are_kept_by_nothing(planned: Plan) -> None:
    assert not bucket(planned, "exports").get("retention_policy")


@pytest.mark.parametrize("name", KEPT)
def test_under_our_key(planned: Plan, name: str) -> None:
    key = planned.resource('google_kms_crypto_key.main["storage"]')["id"]

    assert bucket(planned, name)["encryption"][0]["default_kms_key_name"] == key
