"""Nothing is told to the cloud that nobody has reviewed: every argument of every resource stands in reviewed.yaml.

The other tests say why a value must be as it is. This one finds what they do not ask for: an argument more, a retention
that is shorter, a rule that is switched off, a resource of a kind that nobody thought of.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.terraform.plans import plan
from tests.terraform.reviewed import ANYTHING, RIGHTS, Leaves, differences, told, written
from tools.terraform.check import CHECKOUT
from tools.terraform.module import load, sources

REVIEWED: dict[str, dict[str, Any]] = {
    address: values or {}
    for address, values in yaml.safe_load((Path(__file__).parent / "reviewed.yaml").read_text()).items()
}
OPTIONS = {  # whatever is off in both environments
    "edge": "run",
    "armor_enterprise": True,
    "waf_bodies": True,
    "recaptcha": "required",
    "blocked_regions": ["KP"],
    "blocked_addresses": ["203.0.113.7/32"],
    "dns_zone": "example",
}
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "production": ("production", {}),
    "staging": ("staging", {}),
    "options": ("production", OPTIONS),
}
IN_PLANS = {address: values for address, values in REVIEWED.items() if address.startswith("google_")}
IN_FILES = "lifecycle."


def block(address: str) -> str:
    return re.sub(r"\[.*\]$", "", address)


def reviewed(address: str) -> dict[str, Any]:
    """What was reviewed of a resource: of all that its block makes, and of it alone."""
    both = {**REVIEWED[block(address)], **REVIEWED.get(address, {})}
    return {path: value for path, value in both.items() if path != "only" and not path.startswith(IN_FILES)}


def unreviewed(found: dict[str, Leaves], environment: str) -> list[str]:
    """What of a plan is not as reviewed.yaml says."""
    said: list[str] = []
    for address, given in found.items():
        if block(address) in REVIEWED:
            said += differences(address, given, reviewed(address), environment)
        else:
            said.append(f"{address} is not in reviewed.yaml:\n{yaml.safe_dump({block(address): given})}")
    planned = {*found} | {block(address) for address in found}
    for address in IN_PLANS:
        wanted = environment in {**REVIEWED[block(address)], **IN_PLANS[address]}.get("only", PLANS)
        if wanted != (address in planned):
            said.append(f"{address} is {'no longer' if wanted else 'now'} planned in {environment}")
    return said


@pytest.mark.parametrize("environment", PLANS)
def test_every_resource_is_told_what_was_reviewed(environment: str) -> None:
    name, changes = PLANS[environment]
    said = unreviewed(told(plan(name, **changes)), environment)
    assert said == [], "\n".join(said)


def test_what_stands_in_no_plan_is_as_reviewed() -> None:
    found = written(load(sources(CHECKOUT / "terraform")))
    expected = {}
    for address, values in REVIEWED.items():
        of_files = {
            path: value
            for path, value in values.items()
            if address not in IN_PLANS or (path.startswith(IN_FILES) and block(address) == address)
        }
        if of_files:
            expected[address] = of_files
    assert found == expected


def test_every_block_is_reviewed() -> None:
    """Also one that no plan has anything of, and where Terraform is not installed."""
    declared = {
        address for address in load(sources(CHECKOUT / "terraform")).declared["resource"] if not RIGHTS.search(address)
    }
    assert declared == {block(address) for address in IN_PLANS}


GIVEN = {"direction": "EGRESS", "deny.protocol": "all", "name": "x"}


@pytest.mark.parametrize(
    ("given", "of_review", "said"),
    [
        (GIVEN, GIVEN, 0),
        ({**GIVEN, "disabled": True}, GIVEN, 1),
        ({**GIVEN, "deny.protocol": "icmp"}, GIVEN, 1),
        ({"direction": "EGRESS", "name": "x"}, GIVEN, 1),
        (GIVEN, {**GIVEN, "deny.protocol": {"production": "all", "staging": "icmp"}}, 0),
        (GIVEN, {**GIVEN, "deny.protocol": {"production": "icmp", "staging": "all"}}, 1),
        (GIVEN, {"direction": "EGRESS", "deny": ANYTHING, "name": "<key>"}, 0),
        (GIVEN, {"direction": "EGRESS", "den": ANYTHING, "name": "x"}, 1),
    ],
)
def test_a_difference_is_seen(given: Leaves, of_review: dict[str, Any], said: int) -> None:
    assert len(list(differences('google_compute_firewall.main["x"]', given, of_review, "production"))) == said


def test_what_is_new_or_gone_is_seen() -> None:
    address = "google_compute_firewall.deny_egress"
    found = {each: reviewed(each) for each in IN_PLANS}
    gone = unreviewed({each: values for each, values in found.items() if each != address}, "production")
    assert f"{address} is no longer planned in production" in gone
    new = unreviewed({**found, "google_compute_instance.x": {"machine_type": "e2-micro"}}, "production")
    assert any(said.startswith("google_compute_instance.x is not in reviewed.yaml") for said in new)
