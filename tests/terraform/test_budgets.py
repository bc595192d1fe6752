"""Costs: a budget for each environment that tells early, and covers what README.md says it costs."""

import re
from typing import Any

import pytest

from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

ENVIRONMENTS = ["staging", "production"]  # in the order of the columns of terraform/README.md


@pytest.fixture(params=ENVIRONMENTS)
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def budget(planned: Plan) -> dict[str, Any]:
    (found,) = planned.resources("google_billing_budget").values()
    return found


def test_it_is_about_this_project_and_a_month(planned: Plan) -> None:
    only = budget(planned)["budget_filter"][0]
    number = next(iter(planned.data("google_project").values()))["number"]
    assert only["projects"] == [f"projects/{number}"]
    assert only["calendar_period"] == "MONTH"


def test_it_tells_before_it_is_spent(planned: Plan) -> None:
    rules = {(each["spend_basis"], each["threshold_percent"]) for each in budget(planned)["threshold_rules"]}
    assert {percent for basis, percent in rules if basis == "CURRENT_SPEND"} == {0.5, 0.8, 1, 1.5}
    assert {percent for basis, percent in rules if basis == "FORECASTED_SPEND"} == {1.2}


def test_people_and_programs_hear_of_it(planned: Plan) -> None:
    told = budget(planned)["all_updates_rule"][0]
    mail = planned.resource('google_monitoring_notification_channel.main["email"]')
    topic = planned.resource('google_pubsub_topic.main["budget"]')["id"]
    assert told["monitoring_notification_channels"] == [mail["id"]]
    assert told["disable_default_iam_recipients"] is False
    assert told["pubsub_topic"] == topic
    right = planned.resource("google_pubsub_topic_iam_member.budget")
    assert (right["topic"], right["role"]) == (topic, "roles/pubsub.publisher")
    assert right["member"] == "serviceAccount:billing-budget-alert@system.gserviceaccount.com"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_it_covers_what_the_costs_are_reckoned_at(environment: str) -> None:
    text = (CHECKOUT / "terraform/README.md").read_text()
    sums = re.findall(r"\*\*a month\*\* \| \| \*\*([\d,]+)\*\* \| \*\*([\d,]+)\*\*", text)[0]
    reckoned = int(sums[ENVIRONMENTS.index(environment)].replace(",", ""))
    units = int(budget(plan(environment))["amount"][0]["specified_amount"][0]["units"])
    assert reckoned < units < reckoned * 1.5


def test_without_a_billing_account_there_is_none() -> None:
    assert not plan("production", billing_account=None).resources("google_billing_budget")
