"""POST /internal/alerts: whoever alone goes beyond an alert's limit stands in Cloud Armor's slot, and nobody else."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest
import yaml

from functions.incidents import armor
from local.envoy_armor import NOBODY
from tests.conftest import CHECKOUT

NEVER = (
    *("10.1.2.3", "172.16.0.9", "192.168.1.1", "127.0.0.1", "100.64.7.7", "169.254.1.1", "224.0.0.5", "0.0.0.1"),
    *("35.191.10.20", "130.211.0.9", "::1", "fe80::1", "fd00::7", "::ffff:10.0.0.1", "2600:2d00:1:b029::7"),
)
MINE, OTHER = "198.51.100.7", "198.51.100.8"


def test_it_works(attack):
    attack.seen(MINE, 6)
    attack.seen(OTHER, 5)

    id, answer = attack.raised()

    assert (answer["blocked"], answer["left_over"]) == (1, 0)
    assert attack.ranges() == [f"{MINE}/32"]
    assert attack.rule()["description"].startswith("Incident automation: 1, until 20")
    assert len(attack.rule()["description"]) <= 64
    assert attack.alerts(id)["incident_id"] == answer["incident_id"]
    assert attack.events("block.made")[0] == {"networks": 1}


def test_the_record_is_of_the_platform_and_names_nobody(attack, admin):
    attack.seen(MINE, 6)
    _, answer = attack.raised()

    ((title, severity, description, closed),) = admin.run(
        "SELECT title, severity, description, closed_at FROM platform.incidents WHERE id = :id",
        id=answer["incident_id"],
    )
    assert (title, severity, closed) == ("Somebody tries passwords", "P2", None)
    assert MINE not in description
    assert attack.events("incident.opened")[0] == {"alert": "failed_log_ins", "severity": "P2", "organizations": 0}


def test_the_same_message_twice_changes_nothing(attack):
    attack.seen(MINE, 6)
    id, first = attack.raised()
    before = attack.rule(), attack.alerts(id), attack.events("block.made"), attack.events("incident.opened")

    attack.seen(OTHER, 6)
    again = attack.tell(attack.notice(id))

    assert again.json == {"incident_id": first["incident_id"], "blocked": 0, "left_over": 0}
    after = attack.rule(), attack.alerts(id), attack.events("block.made"), attack.events("incident.opened")
    assert after == before


def test_two_at_once_end_as_one_after_the_other(attack):
    """One of them may be told to come again, as Pub/Sub does."""
    attack.seen(MINE, 6)
    notices = [attack.notice(f"0.twice-{number}") for number in (1, 1, 2, 2)]

    def until_taken(notice):
        statuses = []
        while not statuses or statuses[-1] != 200:
            statuses.append(attack.tell(notice, patient=False).status_code)
            assert set(statuses) <= {200, 503}
            assert len(statuses) < 200
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(until_taken, notices))

    assert attack.ranges() == [f"{MINE}/32"]
    assert attack.alerts("0.twice-1")["incident_id"] == attack.alerts("0.twice-2")["incident_id"]
    assert len(attack.admin.run("SELECT FROM platform.blocks")) == 1


def test_some_are_never_blocked(attack):
    for address in (*NEVER, "not-an-address", "", "198.51.100.7.8"):
        attack.seen(address, 1000)

    assert attack.raised()[1]["blocked"] == 0
    assert attack.ranges() == [NOBODY]


def test_an_address_of_version_6_is_blocked_with_its_network(attack):
    for last in range(6):
        attack.seen(f"2001:db8:1:2::{last}", 1)
    attack.seen("::ffff:198.51.100.9", 6)

    attack.raised()

    assert attack.ranges() == ["198.51.100.9/32", "2001:db8:1:2::/64"]


def test_what_is_no_failed_log_in_does_not_count(attack):
    for seen in (
        {"age": 1000},  # long ago
        {"details": "rbac_access_denied_matched_policy[incident]"},  # refused at the edge already
        {"path": "/v1/projects"},
        {"path": "/v1/auth/me"},
        {"status": 200},
        {"status": 500},
    ):
        attack.seen(MINE, 50, **seen)

    assert attack.raised()[1]["blocked"] == 0


def test_more_than_the_limit_within_its_time_counts(attack):
    for age in range(10, 130, 10):
        attack.seen(MINE, 1, age=age)  # six a minute, at no time more: 61 seconds hold seven

    for age in range(15, 195, 15):
        attack.seen(OTHER, 1, age=age)  # four a minute

    attack.raised()

    assert attack.ranges() == [f"{MINE}/32"]


def test_many_people_behind_one_address_are_not_blocked_for_some_who_mistype(attack):
    attack.seen(MINE, 7)
    attack.seen(MINE, 70, status=200)
    attack.seen(OTHER, 7)
    attack.seen(OTHER, 69, status=200)

    attack.raised()

    assert attack.ranges() == [f"{OTHER}/32"]


@pytest.mark.parametrize(
    ("alert", "status", "path", "number"),
    [("unauthorized", 403, "/v1/projects", 61), ("abnormal_usage", 429, "/v1/tasks", 301)],
)
def test_the_other_alerts_have_limits_of_their_own(attack, alert, status, path, number):
    attack.seen(MINE, number, status=status, path=path)
    attack.seen(OTHER, number - 1, status=status, path=path)

    attack.raised(alert)

    assert attack.ranges() == [f"{MINE}/32"]


def test_an_alert_about_no_requests_opens_its_record(attack, admin):
    _, answer = attack.raised("forged")

    assert (answer["blocked"], answer["left_over"]) == (0, 0)
    severity = admin.run("SELECT severity FROM platform.incidents WHERE id = :id", id=answer["incident_id"])
    assert severity == [["P1"]]


def test_the_slot_has_room_for_ten_and_the_worst_come_first(attack):
    for last in range(1, 13):
        attack.seen(f"203.0.113.{last}", 10 + last)

    id, answer = attack.raised()

    assert (answer["blocked"], answer["left_over"]) == (10, 2)
    assert sorted(attack.ranges()) == sorted(f"203.0.113.{last}/32" for last in range(3, 13))
    assert (attack.alerts(id)["blocked"], attack.alerts(id)["left_over"]) == (10, 2)


def test_what_is_over_leaves_room_for_what_goes_on(attack):
    for last in range(10):
        attack.seen(f"203.0.113.{last}", 10)
    attack.raised()
    attack.later(3600)
    attack.seen(MINE, 6)

    answer = attack.raised()[1]

    assert (answer["blocked"], answer["left_over"]) == (1, 0)
    assert attack.ranges() == [f"{MINE}/32"]


def test_nobody_is_blocked_for_what_is_long_over(attack):
    """An alert of this night, answered in the morning: a block of then would have ended."""
    attack.seen(MINE, 6, age=4 * 3600)
    attack.seen(OTHER, 6, age=1800)
    assert attack.tell(attack.notice("0.1", began=5 * 3600)).json["blocked"] == 1

    assert attack.ranges() == [f"{OTHER}/32"]


def notice(**fields):
    return {"incident": {"incident_id": "0.1", "state": "open", "started_at": 1, **fields}}


def test_what_is_none_of_ours_is_taken_and_nothing_happens(attack, admin):
    ours = {"alert": "forged"}
    for message in (
        *("", "no base64", [], {"incident": None}, notice()),
        notice(started_at="x", policy_user_labels=ours),
        notice(started_at=1e30, policy_user_labels=ours),
        notice(incident_id=7, policy_user_labels=ours),
        notice(incident_id="", policy_user_labels=ours),
        notice(incident_id="0" * 129, policy_user_labels=ours),
        notice(incident_id="0.1\x00", policy_user_labels=ours),
        notice(started_at=1e17, policy_user_labels=ours),
        base64.b64encode(b"[" * 100_000).decode(),
        notice(policy_user_labels={"alert": "answered"}),
        notice(policy_user_labels={"alert": {}}),
    ):
        answer = attack.tell(message)
        assert (answer.status_code, answer.json) == (200, {"incident_id": None, "blocked": 0, "left_over": 0}), message

    assert admin.run("SELECT count(*) FROM platform.alerts") == [[0]]


@pytest.mark.parametrize("account", ["scheduler", "workflows", "tasks", "gateway", "incidents", "auth"])
def test_it_is_pubsubs(attack, account):
    assert attack.tell(attack.notice("0.1"), account).status_code == 403


@pytest.mark.parametrize("account", ["alerts", "workflows", "tasks", "gateway", "incidents"])
def test_the_sweep_is_the_schedulers(attack, account):
    assert attack.sweep(account).status_code == 403


def test_an_over_long_list_or_everybody_is_never_written():
    for wrong in ([f"198.51.100.{last}/32" for last in range(11)], ["0.0.0.0/0"], ["::/0"]):
        with pytest.raises(ValueError, match="ten ranges at most"):
            armor.write(wrong, "")
    assert ip_network(armor.PLACEHOLDER).num_addresses == 1


def test_no_page_of_another_site_can_make_its_visitors_fail_to_log_in(api):
    """What a browser sends without asking first: a form, with no token. None of it counts as a guess."""
    alerts = yaml.safe_load((CHECKOUT / "functions" / "incidents" / "alerts.yaml").read_text())
    looked, statuses = (alerts["failed_log_ins"]["requests"][name] for name in ("paths", "statuses"))
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
    for name in ("auth/login", "auth/email/verify", "auth/mfa/verify", "invitations/accept"):
        path = f"/v1/{name}"
        assert re.match(looked, path)
        for kind in kinds:
            headers = {"Content-Type": kind, "Origin": "https://x.example"}
            answer = api.post(path, data='{"email": "a@example.org"}', headers=headers)
            assert answer.status_code not in statuses, (path, kind)
    for path in ("auth/step-up", "auth/password/change"):
        assert api.post(f"/v1/{path}").status_code in statuses
        assert not re.match(looked, f"/v1/{path}"), "it is refused before its body is looked at"
