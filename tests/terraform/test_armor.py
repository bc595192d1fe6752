"""Cloud Armor: what is refused, what is only watched, and in which order."""

import re
from typing import Any

import pytest

from local.gateway import tables
from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

LIMITS = {"subexpressions": 5, "characters": 2048, "addresses": 10, "description": 64, "expressions": 20}
ENTRANCES = {"/v1/auth/register", "/v1/auth/login"}
ADDRESSES = [f"198.51.100.{host}/32" for host in range(11)]
REGIONS = ["KP", "IR", "SY", "CU", "BY", "RU"]


def strict() -> Plan:
    """Production with everything turned on."""
    return plan(
        "production",
        waf_bodies=True,
        recaptcha="score",
        armor_enterprise=True,
        blocked_regions=REGIONS,
        blocked_addresses=ADDRESSES,
    )


def past_the_gateway() -> Plan:
    """Production without the gateway, and without clients that have no token."""
    return plan("production", edge="run", recaptcha="required")


@pytest.fixture(params=["production", "staging", "foundation"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def rules(planned: Plan) -> dict[str, Any]:
    """Every rule by its name in the configuration, in the order in which Armor asks them."""
    found = planned.resources("google_compute_security_policy_rule")
    ordered = sorted(found, key=lambda address: found[address]["priority"])
    return {address.partition(".")[2].replace('main["', "").removesuffix('"]'): found[address] for address in ordered}


def expression(rule: dict[str, Any]) -> str:
    return rule["match"][0]["expr"][0]["expression"] if rule["match"][0]["expr"] else ""


def enforced(rule: dict[str, Any]) -> bool:
    return not rule.get("preview")


def test_everything_that_the_load_balancer_leads_to_stands_behind_it(planned: Plan) -> None:
    policy = planned.resource("google_compute_security_policy.edge")
    services = planned.resources("google_compute_backend_service").values()
    assert services
    assert {each["security_policy"] for each in services} == {policy["id"]}
    assert {each["security_policy"] for each in rules(planned).values()} == {policy["name"]}


def test_past_the_gateway_too() -> None:
    planned = past_the_gateway()
    policy = planned.resource("google_compute_security_policy.edge")
    services = planned.resources("google_compute_backend_service")
    assert len(services) > 5
    assert {each["security_policy"] for each in services.values()} == {policy["id"]}


def test_a_thousand_requests_a_minute_from_one_address(planned: Plan) -> None:
    name, rule = list(rules(planned).items())[-1]
    options = rule["rate_limit_options"][0]
    assert name == "rate", "the rule that lets in what keeps the rate ends the list"
    assert rule["action"] == "throttle"
    assert enforced(rule)
    assert rule["match"][0]["config"][0]["src_ip_ranges"] == ["*"]
    assert options["rate_limit_threshold"] == [{"count": 1000, "interval_sec": 60}]
    assert (options["enforce_on_key"], options["exceed_action"]) == ("IP", "deny(429)")


def test_owasps_rule_sets_at_sensitivity_1(planned: Plan) -> None:
    wanted = {"sqli", "xss", "lfi", "rfi", "rce", "protocolattack", "scannerdetection", "sessionfixation", "nodejs"}
    calls = [
        (rule, call)
        for rule in rules(planned).values()
        for call in re.findall(r"evaluatePreconfiguredWaf\('([a-z0-9-]+)', \{'sensitivity': (\d)\}\)", expression(rule))
    ]
    written = sum(expression(rule).count("evaluatePreconfigured") for rule in rules(planned).values())
    assert len(calls) == written, "a set without a sensitivity is read at the highest"
    assert {level for _, (_, level) in calls} == {"1"}
    watched = {name for rule, (name, _) in calls if rule["preview"]}
    refused = {name for rule, (name, _) in calls if enforced(rule)}
    assert watched == refused == {f"{name}-v422-stable" for name in wanted} | {"cve-canary"}


def test_json_bodies_are_only_watched(planned: Plan) -> None:
    """A rule that refuses must not see the text that people write: it looks at methods without a body alone."""
    options = planned.resource("google_compute_security_policy.edge")["advanced_options_config"][0]
    assert options["json_parsing"] == "STANDARD"
    for name, rule in rules(planned).items():
        if "evaluatePreconfiguredWaf" in expression(rule) and enforced(rule):
            methods = re.match(r"request\.method\.matches\('\^\(([A-Z|]+)\)\$'\) && \(.*\)$", expression(rule))
            assert methods, name
            assert not {"POST", "PUT", "PATCH"} & set(methods[1].split("|")), name


def test_a_variable_turns_watching_into_refusing() -> None:
    assert all(enforced(rule) for name, rule in rules(strict()).items() if "waf" in name)


def test_adaptive_protection_watches_layer_7(planned: Plan) -> None:
    policy = planned.resource("google_compute_security_policy.edge")
    defence = policy["adaptive_protection_config"][0]["layer_7_ddos_defense_config"][0]
    assert defence["enable"] is True


def test_logs_do_not_hold_what_people_wrote(planned: Plan) -> None:
    options = planned.resource("google_compute_security_policy.edge")["advanced_options_config"][0]
    assert options["log_level"] == "NORMAL"


def entrance(text: str) -> re.Pattern[str]:
    found = re.search(r"request\.path\.matches\('([^']+)'\)", text)
    assert found, text
    return re.compile(found[1])


@pytest.mark.parametrize("name", ["bot-score", "bot-token"])
def test_sign_up_and_log_in_are_assessed(planned: Plan, name: str) -> None:
    rule = rules(planned)[name]
    key = planned.resource("google_recaptcha_enterprise_key.action")
    pattern = entrance(expression(rule))
    paths = {line.path for table in tables() for line in table.routes}
    assert {path for path in paths if pattern.search(path)} == ENTRANCES <= paths
    assert "request.method == 'POST'" in expression(rule)
    assert "token.recaptcha_action" in expression(rule)
    assert rule["action"] == "deny(403)"
    assert rule["match"][0]["expr_options"][0]["recaptcha_options"][0]["action_token_site_keys"] == [key["name"]]
    assert key["waf_settings"][0] == {"waf_service": "CA", "waf_feature": "ACTION_TOKEN"}
    assert key["web_settings"][0]["allow_all_domains"] in (False, None)


def test_how_much_of_it_refuses_is_a_variable() -> None:
    for planned, refusing in (
        (plan("production"), set()),
        (strict(), {"bot-score"}),
        (past_the_gateway(), {"bot-score", "bot-token"}),
    ):
        found = rules(planned)
        assert {name for name in ("bot-score", "bot-token") if enforced(found[name])} == refusing


def test_nobody_is_refused_for_want_of_a_token_unless_somebody_says_so(planned: Plan) -> None:
    assert not enforced(rules(planned)["bot-token"])


def test_what_is_too_fast_for_a_person_is_challenged(planned: Plan) -> None:
    rule = rules(planned)["challenge"]
    options = rule["rate_limit_options"][0]
    assert options["exceed_action"] == "redirect"
    assert options["exceed_redirect_options"][0]["type"] == "GOOGLE_RECAPTCHA"
    key = planned.resource("google_recaptcha_enterprise_key.challenge")
    policy = planned.resource("google_compute_security_policy.edge")
    assert policy["recaptcha_options_config"][0]["redirect_site_key"] == key["name"]
    pages = entrance(expression(rule))
    paths = {line.path for table in tables() for line in table.routes}
    assert len([path for path in paths if pages.search(path)]) == 6


def test_countries_are_a_variable_and_none_by_default(planned: Plan) -> None:
    assert "regions" not in rules(planned)
    rule = rules(strict())["regions"]
    assert expression(rule) == f"origin.region_code.matches('^({'|'.join(REGIONS)})$')"
    assert (rule["action"], enforced(rule)) == ("deny(403)", True)


def test_known_bots_are_refused_ten_to_a_rule() -> None:
    found = rules(strict())
    some = [rule for name, rule in found.items() if name.startswith("addresses")]
    listed = [rule["match"][0]["config"][0]["src_ip_ranges"] for rule in some]
    assert listed == [ADDRESSES[:10], ADDRESSES[10:]]
    assert {rule["action"] for rule in some} == {"deny(403)"}


def test_googles_list_of_malicious_addresses_belongs_to_enterprise(planned: Plan) -> None:
    assert "threats" not in rules(planned)
    assert "iplist-known-malicious-ips" in expression(rules(strict())["threats"])


def test_the_incident_slot_comes_first_and_belongs_to_the_automation(planned: Plan) -> None:
    """It refuses nobody until it is filled, and an apply does not empty it again."""
    name, rule = next(iter(rules(planned).items()))
    assert name == "incident"
    assert rule["match"][0]["config"][0]["src_ip_ranges"] == ["192.0.2.0/32"]
    assert (rule["action"], enforced(rule)) == ("deny(403)", True)
    policy = planned.resource("google_compute_security_policy.edge")
    assert not policy.get("rule"), "rules inside the policy would undo those beside it"
    written = (CHECKOUT / "terraform/armor.tf").read_text()  # no plan tells what it would ignore
    block = written.partition('resource "google_compute_security_policy_rule" "incident"')[2].partition("\n}\n")[0]
    assert "ignore_changes = [match, description]" in block
    assert written.count("ignore_changes") == 1


def test_the_role_of_the_automation_changes_rules_and_nothing_else(planned: Plan) -> None:
    role = planned.resource("google_project_iam_custom_role.blocker")
    assert set(role["permissions"]) == {
        "compute.globalOperations.get",
        "compute.securityPolicies.get",
        "compute.securityPolicies.update",
    }


def test_the_limits_of_the_service_are_kept() -> None:
    found = rules(strict())
    priorities = [rule["priority"] for rule in found.values()]
    assert len(priorities) == len(set(priorities))
    assert sum(bool(expression(rule)) for rule in found.values()) <= LIMITS["expressions"]
    for name, rule in found.items():
        assert len(rule["description"]) <= LIMITS["description"], name
        assert len(expression(rule)) <= LIMITS["characters"], name
        assert len(re.split(r"&&|\|\|", expression(rule))) <= LIMITS["subexpressions"], name
        config = rule["match"][0]["config"]
        assert not config or len(config[0]["src_ip_ranges"]) <= LIMITS["addresses"], name
