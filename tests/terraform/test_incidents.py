"""What the incident automation has in the cloud: alerts, one rule, and lists that are the same everywhere."""

from ipaddress import ip_network
from typing import Any

import pytest
import yaml

from common.errors import CODES
from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

ALERTS: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "functions/incidents/alerts.yaml").read_text())
COUNTED = {name: alert for name, alert in ALERTS.items() if "codes" in alert}


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def policy(planned: Plan, name: str) -> dict[str, Any]:
    return planned.resource(f'google_monitoring_alert_policy.main["{name}"]')


def test_each_alert_is_pushed_by_the_one_account_that_may_call(planned: Plan) -> None:
    subscription = planned.resource('google_pubsub_subscription.alerts["incidents"]')
    account = planned.resource('google_service_account.main["alerts"]')
    service = planned.resource('google_cloud_run_v2_service.main["incidents"]')
    (push,) = subscription["push_config"]
    (token,) = push["oidc_token"]

    assert subscription["topic"] == planned.resource('google_pubsub_topic.main["alerts"]')["id"]
    assert push["push_endpoint"] == f"{token['audience']}/internal/alerts"
    assert [token["audience"]] == service["custom_audiences"]
    assert token["service_account_email"] == account["email"]
    assert service["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert service["template"][0]["max_instance_request_concurrency"] == 1
    assert service["template"][0]["scaling"][0]["max_instance_count"] == 1
    assert subscription["ack_deadline_seconds"] >= int(service["template"][0]["timeout"].removesuffix("s"))
    assert subscription["expiration_policy"] == [{"ttl": ""}]


def test_there_is_no_push_before_there_is_a_service() -> None:
    assert 'google_pubsub_subscription.alerts["incidents"]' not in plan("foundation").addresses


def test_the_function_knows_its_policy_and_whom_to_spare(planned: Plan) -> None:
    service = planned.resource('google_cloud_run_v2_service.main["incidents"]')
    given = {each["name"]: each["value"] for each in service["template"][0]["containers"][0]["env"]}

    assert given["SECURITY_POLICY"] == planned.resource("google_compute_security_policy.edge")["name"]
    assert given["NEVER_BLOCKED"].startswith(planned.resource("google_compute_address.nat")["address"] + "/32")
    assert given["FAILED_LOG_INS_A_MINUTE"] == str(planned.variables["failed_log_ins_a_minute"])
    assert given["ALERTS_ACCOUNT"] == planned.resource('google_service_account.main["alerts"]')["email"]


def test_who_is_spared_is_a_list_of_networks() -> None:
    made = plan("production", never_blocked=["203.0.113.0/24", "2001:db8::/32"])
    service = made.resource('google_cloud_run_v2_service.main["incidents"]')
    given = {each["name"]: each["value"] for each in service["template"][0]["containers"][0]["env"]}
    assert [str(ip_network(each)) for each in given["NEVER_BLOCKED"].split(",")[1:]] == [
        "203.0.113.0/24",
        "2001:db8::/32",
    ]


def test_one_account_may_write_the_slot(planned: Plan) -> None:
    role = planned.resource("google_project_iam_custom_role.blocker")["id"]
    holders = [each for each in planned.resources("google_project_iam_member").values() if each["role"] == role]
    assert [each["member"] for each in holders] == [
        planned.resource('google_service_account.main["incidents"]')["member"]
    ]


@pytest.mark.parametrize("name", ALERTS)
def test_what_is_answered_is_an_alert_by_its_label(planned: Plan, name: str) -> None:
    assert policy(planned, name)["user_labels"]["alert"] == name


@pytest.mark.parametrize("name", COUNTED)
def test_the_limit_of_all_is_the_limit_of_one(planned: Plan, name: str) -> None:
    condition = policy(planned, name)["conditions"][0]["condition_threshold"][0]
    expected = planned.variables[COUNTED[name]["setting"]] if "setting" in COUNTED[name] else COUNTED[name]["above"]
    assert condition["threshold_value"] == expected
    assert condition["aggregations"][0]["alignment_period"] == f"{COUNTED[name]['seconds']}s"


@pytest.mark.parametrize("name", COUNTED)
def test_every_code_that_counts_has_a_status_that_is_looked_for(name: str) -> None:
    codes = set(COUNTED[name]["codes"])
    # 429 tells of too many requests above all, and any page can make its visitors send them.
    ours = codes if "rate_limited" in codes else codes - {"account_locked"}
    assert {CODES[code][0] for code in ours} == set(COUNTED[name]["requests"]["statuses"])


def test_an_ended_alert_is_told_so_that_nobody_looks_any_more(planned: Plan) -> None:
    for name in COUNTED:
        assert "CLOSED" in policy(planned, name)["alert_strategy"][0]["notification_prompts"]
