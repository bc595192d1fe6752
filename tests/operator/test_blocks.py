"""`operator block`: what the slot refuses is seen, added to and ended."""

import pytest

from local.envoy_armor import NOBODY
from tests.incidents.conftest import Attack

RANGE = "198.51.100.0/24"


@pytest.fixture
def attack(stack, api, admin):
    made = Attack(stack, api, admin)
    made.reset()
    return made


def test_add_list_lift(attack, asked, told):
    added = asked("block", "add", RANGE, "--hours", "2", "--reason", "ticket 4711")
    assert (added["exit_code"], added["outcome"]) == (0, "added")
    assert told.one(added["request_id"])[:2] == ("block.added", "success")
    assert asked("block", "add", "198.51.100.7", "--reason", "once more")["outcome"] == "longer"

    (listed,) = [each for each in asked("block", "list")["blocks"] if each["network"] == RANGE]
    assert (listed["source"], listed["state"]) == ("operator", "begins")
    assert attack.sweep().json["present"] == 1
    assert attack.ranges() == [RANGE]
    assert asked("block", "list")["blocks"][0]["state"] == "blocked"

    assert asked("block", "lift", "198.51.100.7", "--reason", "a customer")["ended"] == 1
    assert attack.sweep().json["present"] == 0
    unknown = asked("block", "lift", "203.0.113.9", "--reason", "a customer")
    assert (unknown["exit_code"], unknown["ended"]) == (1, 0)
    assert told.one(unknown["request_id"])[:2] == ("block.ended", "denied")


def test_a_full_slot_says_so(attack, asked):
    attack.admin.run(
        "INSERT INTO platform.blocks (network, source, ends_at)"
        " SELECT ('203.0.113.' || n)::cidr, 'operator', now() + interval '1 hour' FROM generate_series(1, 10) n"
    )
    refused = asked("block", "add", RANGE, "--reason", "ticket 4711")
    assert (refused["exit_code"], refused["outcome"]) == (1, "full")


def test_a_wider_block_lasts_no_longer_for_a_narrower_one(attack, asked):
    asked("block", "add", RANGE, "--reason", "ticket 4711")
    assert asked("block", "add", "198.51.100.7", "--hours", "24", "--reason", "the worst of them")["outcome"] == "added"

    ends = {each["network"]: each["ends_at"] for each in asked("block", "list")["blocks"]}
    assert ends[RANGE] < ends["198.51.100.7/32"]
    assert asked("block", "add", RANGE, "--hours", "2", "--reason", "longer")["outcome"] == "longer"


def test_a_block_that_is_prolonged_when_it_was_over_is_in_force_again(attack, asked):
    """A run has emptied the slot, and died before it said so: that is nobody's who took it out by hand."""
    asked("block", "add", "198.51.100.7", "--reason", "ticket 4711")
    assert attack.sweep().json["present"] == 1
    attack.later(3600)
    attack.write([NOBODY])

    assert asked("block", "add", "198.51.100.7", "--reason", "it goes on")["outcome"] == "longer"

    assert attack.sweep().json["present"] == 1
    assert attack.ranges() == ["198.51.100.7/32"]
