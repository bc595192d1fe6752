"""POST /internal/blocks/sweep: a block ends by itself, what people write counts, a run that dies has lost nothing."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from common import errors
from functions.incidents import answering, queries
from local.envoy_armor import NOBODY
from tests.conftest import wait_until

MINE, OTHER = "198.51.100.7", "198.51.100.8"


def close(attack, id):
    assert attack.tell(attack.notice(id, state="closed")).status_code == 200


def test_a_block_ends(attack):
    attack.seen(MINE, 6)
    id, _ = attack.raised()
    close(attack, id)
    attack.later(3500)
    assert attack.sweep().json == {"alerts": 0, "blocked": 0, "present": 1}

    attack.later(100)

    assert attack.sweep().json == {"alerts": 0, "blocked": 0, "present": 0}
    assert attack.ranges() == [NOBODY]
    assert attack.rule()["description"] == "Incident automation: empty"
    assert attack.events("block.lifted")[0] == {"over": 1, "undone": 0}
    assert attack.sweep().json["present"] == 0
    assert len(attack.admin.run("SELECT FROM platform.blocks WHERE lifted_at IS NOT NULL")) == 1


def test_who_goes_on_is_blocked_again_but_not_for_the_same_requests(attack):
    attack.seen(MINE, 6, age=30)
    attack.raised()
    attack.later(3600)
    attack.sweep()

    assert attack.raised()[1]["blocked"] == 0
    attack.seen(MINE, 6, age=0)
    attack.admin.run("UPDATE platform.blocks SET lifted_at = lifted_at - interval '1 hour'")
    assert attack.raised()[1]["blocked"] == 1


def test_who_comes_later_is_blocked_while_the_alert_goes_on(attack):
    id, answer = attack.raised()
    assert answer["blocked"] == 0
    attack.seen(OTHER, 6, age=0)

    assert attack.sweep().json == {"alerts": 1, "blocked": 1, "present": 1}

    assert attack.ranges() == [f"{OTHER}/32"]
    assert attack.alerts(id)["told_at"] is not None


def test_that_nobody_was_found_is_said_after_ten_minutes(attack):
    id, _ = attack.raised()
    assert attack.alerts(id)["told_at"] is None
    attack.admin.run("UPDATE platform.alerts SET opened_at = opened_at - interval '11 minutes'")

    attack.sweep()

    assert attack.alerts(id)["told_at"] is not None


def test_an_alert_that_ended_is_looked_at_no_more(attack):
    attack.seen(MINE, 6)
    id, _ = attack.raised()
    close(attack, id)
    attack.seen(OTHER, 6, age=0)

    assert attack.sweep().json["alerts"] == 0
    assert attack.ranges() == [f"{MINE}/32"]


def test_what_somebody_takes_out_stays_out(attack):
    attack.seen(MINE, 6)
    attack.seen(OTHER, 6)
    attack.raised()
    attack.write([f"{OTHER}/32"])

    assert attack.sweep().json["present"] == 1

    assert attack.ranges() == [f"{OTHER}/32"]
    assert attack.events("block.lifted")[0] == {"over": 0, "undone": 1}
    assert attack.sweep().json == {"alerts": 1, "blocked": 0, "present": 1}


def test_what_somebody_writes_is_kept_and_ends_when_it_says(attack):
    end = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%MZ")
    attack.write(["203.0.113.0/24"], f"Incident 4711, until {end}")
    attack.seen(MINE, 6)

    attack.raised()

    assert sorted(attack.ranges()) == [f"{MINE}/32", "203.0.113.0/24"]
    ((source, ends),) = attack.admin.run("SELECT source, ends_at FROM platform.blocks WHERE network = '203.0.113.0/24'")
    assert (source, ends.strftime("%Y-%m-%dT%H:%MZ")) == ("slot", end)
    attack.later(7200)
    assert attack.sweep().json["present"] == 0


@pytest.mark.parametrize(
    "foreign",
    [
        {"action": "allow"},
        {"preview": True},
        {"match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["0.0.0.0/0"]}}},
    ],
    ids=["allow", "preview", "everybody"],
)
def test_a_rule_that_is_not_ours_is_not_written(attack, foreign):
    """With `allow`, a block would let the attacker past every other rule."""
    attack.patch(**foreign)
    before = attack.rule()
    attack.seen(MINE, 6)

    assert attack.tell(attack.notice("0.1")).status_code == 503

    assert attack.rule() == before
    assert attack.alerts("0.1")["told_at"] is None
    attack.patch(action="deny(403)", preview=False)
    attack.write([NOBODY])
    assert attack.tell(attack.notice("0.1")).status_code == 200
    assert attack.ranges() == [f"{MINE}/32"]


@pytest.mark.parametrize("written", [False, True])
def test_a_run_that_died_is_made_good_by_the_next(attack, written):
    """It died after it noted the block: before, or after it wrote the slot."""
    attack.seen(MINE, 6)
    id, _ = attack.raised()
    attack.admin.run("UPDATE platform.blocks SET in_force_at = NULL")
    attack.admin.run("UPDATE platform.alerts SET told_at = NULL")
    if not written:
        attack.write([NOBODY])

    assert attack.sweep().json["present"] == 1

    assert attack.ranges() == [f"{MINE}/32"]
    assert attack.alerts(id)["told_at"] is not None


def test_a_run_that_died_leaves_its_lease_for_five_minutes_at_most(attack):
    lease = "INSERT INTO platform.block_run (run, ends_at) VALUES (gen_random_uuid(), now() + interval '5 minutes')"
    attack.admin.run(lease)
    try:
        assert attack.sweep(patient=False).status_code == 503
        assert attack.tell(attack.notice("0.1"), patient=False).status_code == 503
        attack.admin.run("UPDATE platform.block_run SET ends_at = now()")
        assert attack.sweep().status_code == 200
    finally:
        attack.admin.run("DELETE FROM platform.block_run")


def test_alerts_of_a_kind_share_a_record_for_a_day(attack):
    first = attack.raised()[1]["incident_id"]
    assert attack.raised()[1]["incident_id"] == first
    assert attack.raised("unauthorized")[1]["incident_id"] != first
    attack.admin.run(
        "UPDATE platform.incidents SET created_at = created_at - interval '1 day' WHERE id = :id", id=first
    )
    assert attack.raised()[1]["incident_id"] != first


def test_that_it_ended_may_be_told_before_that_it_began(attack):
    """Pub/Sub keeps no order, and what was refused comes again later."""
    attack.seen(MINE, 6)
    close(attack, "0.1")
    assert attack.ranges() == [f"{MINE}/32"]
    attack.seen(OTHER, 6, age=0)

    assert attack.tell(attack.notice("0.1")).json["blocked"] == 0

    assert attack.alerts("0.1")["closed_at"] is not None
    assert attack.sweep().json["alerts"] == 0


@pytest.mark.parametrize("by", ["command", "rule"])
def test_no_alert_puts_back_for_a_day_what_a_person_took_out(attack, by):
    attack.seen(MINE, 6)
    attack.raised()
    if by == "command":
        assert attack.admin.run("SELECT platform.end_blocks('198.51.100.0/24', NULL, 'r')") == [[1]]
    else:
        attack.write([NOBODY])
    assert attack.sweep().json["present"] == 0
    attack.admin.run("UPDATE platform.blocks SET lifted_at = lifted_at - interval '23 hours'")
    attack.seen(MINE, 6, age=0)

    assert attack.raised()[1]["blocked"] == 0

    attack.admin.run("UPDATE platform.blocks SET spared_until = now()")
    assert attack.raised()[1]["blocked"] == 1


def test_an_alert_that_goes_on_for_days_is_looked_at(attack):
    """Monitoring keeps it open and tells nothing more; only what goes on for weeks was forgotten there."""
    attack.raised()
    attack.admin.run("UPDATE platform.alerts SET created_at = created_at - interval '29 days'")
    attack.seen(OTHER, 6, age=0)
    assert attack.sweep().json == {"alerts": 1, "blocked": 1, "present": 1}

    attack.admin.run("UPDATE platform.alerts SET created_at = created_at - interval '2 days'")
    assert attack.sweep().json["alerts"] == 0


def test_an_alert_about_no_requests_is_looked_at_once(attack):
    attack.raised("forged")
    assert attack.sweep().json["alerts"] == 0


def test_it_is_said_rather_twice_than_never(attack):
    """The run dies between the line that raises an alert and the mail."""
    said = attack.layout.path("log", "incidents.log")
    before = said.read_text().count("an alert was answered")
    attack.seen(MINE, 6)
    attack.admin.run("REVOKE EXECUTE ON FUNCTION platform.tell_alert(text, boolean) FROM incidents_fn")
    try:
        assert attack.tell(attack.notice("0.1")).status_code == 500
    finally:
        attack.admin.run("GRANT EXECUTE ON FUNCTION platform.tell_alert(text, boolean) TO incidents_fn")
    wait_until(lambda: said.read_text().count("an alert was answered") == before + 1, 10, "the line")

    assert attack.tell(attack.notice("0.1")).status_code == 200
    wait_until(lambda: said.read_text().count("an alert was answered") == before + 2, 10, "the line once more")
    assert attack.alerts("0.1")["told_at"] is not None


def test_a_run_that_lost_its_lease_writes_nothing(attack):
    """Its request was given up, but it went on; meanwhile another one began."""
    attack.seen(MINE, 6)
    attack.admin.run("""
        CREATE FUNCTION public.another_run() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            UPDATE platform.block_run SET run = gen_random_uuid(), ends_at = now() + interval '5 minutes';
            RETURN NEW;
        END $$;
        CREATE TRIGGER another_run BEFORE UPDATE OF looked_at ON platform.alerts
        FOR EACH ROW EXECUTE FUNCTION public.another_run()
    """)
    try:
        assert attack.tell(attack.notice("0.1"), patient=False).status_code == 503
        assert attack.ranges() == [NOBODY]
    finally:
        attack.admin.run("DROP FUNCTION public.another_run CASCADE")
        attack.admin.run("DELETE FROM platform.block_run")

    assert attack.tell(attack.notice("0.1")).status_code == 200
    assert attack.ranges() == [f"{MINE}/32"]


def test_what_is_refused_stays_so_when_more_is_wanted_than_fits(attack):
    """Ten by hand while a run had noted one and died."""
    attack.seen(MINE, 6)
    attack.raised()
    attack.admin.run("UPDATE platform.blocks SET in_force_at = NULL")
    by_hand = [f"203.0.113.{last}/32" for last in range(10)]
    attack.write(by_hand, "Incident 4711")

    assert attack.sweep().json["present"] == 10

    assert sorted(attack.ranges()) == by_hand
    assert attack.sweep().json["present"] == 10
    assert attack.events("block.found")[0] == {"networks": 10}


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59Z", "9999-12-31T23:59-05:00", "0001-01-01T00:00Z"])
def test_a_slip_of_centuries_in_a_description_stops_no_run(attack, until):
    attack.write(["203.0.113.0/24"], f"Incident 4711, until {until}")

    assert attack.sweep().status_code == 200

    ((ends,),) = attack.admin.run("SELECT ends_at FROM platform.blocks WHERE network = '203.0.113.0/24'")
    assert datetime.now(UTC) - timedelta(minutes=5) < ends < datetime.now(UTC) + timedelta(days=31)
    assert attack.sweep().status_code == 200


@pytest.mark.parametrize("error", [errors.Problem("unavailable"), ValueError("no network")])
def test_what_is_over_is_lifted_though_nobody_can_be_looked_for(monkeypatch, error):
    def fails(*_given):
        raise error

    settled = []
    alert = queries.Alert("1", "failed_log_ins", "2", datetime.now(UTC), None, told=False, blocked=0, left_over=0)
    monkeypatch.setattr(queries, "select_alerts", lambda: [alert])
    monkeypatch.setattr(answering, "answers", lambda: {"failed_log_ins": SimpleNamespace(requests=True)})
    monkeypatch.setattr(answering, "_look", fails)
    monkeypatch.setattr(answering, "_settle", lambda *given: settled.append(given))
    with pytest.raises(type(error)):
        answering.sweep("run", "request")
    assert settled == [("run", "request")]
