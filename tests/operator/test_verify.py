"""`verify`: one chain that was altered is found among many, by its seq, and only that one."""

import pytest

from tests.operator.conftest import PLATFORM


def write(api, person, *names):
    for name in names:
        assert api.post("/v1/projects", headers=person, json={"name": name}).status_code == 201


def last(admin, person):
    return admin.run("SELECT max(seq) FROM app.audit_events WHERE tenant_id = :id", id=person.tenant_id)[0][0]


@pytest.fixture
def altered(api, admin, people):
    """An organization whose administrator rewrote an event, and its seq."""
    victim = people.create("owner")
    write(api, victim, "Atlas", "Borea", "Ceres")
    seq = last(admin, victim) - 1
    admin.run(
        "UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :id AND seq = :seq",
        id=victim.tenant_id,
        seq=seq,
    )
    return victim.tenant_id, seq


def test_one_among_many(api, asked, operator, told, alice, mallory, altered):
    victim, seq = altered
    for person in (alice, mallory):
        write(api, person, "Dione")

    answer = asked("verify", "--operator", "staff-7")

    found = {line["organization_id"]: line["seq"] for line in answer["broken"]}
    assert found[victim] == seq
    assert not {alice.tenant_id, mallory.tenant_id, PLATFORM} & found.keys()
    assert answer["exit_code"] == 1
    assert answer["chains"] > 3
    action, outcome, _, data = told.one(answer["request_id"])
    assert (action, outcome, data["chains"], data["broken"]) == (
        "audit.verified",
        "failure",
        answer["chains"],
        len(found),
    )
    assert {"organization": victim, "seq": seq} in data["first_broken"] or len(found) > 100
    one = operator("verify", "--organization", victim)
    assert (one.returncode, one.stdout.splitlines()[0]) == (1, f"{victim}: broken at seq {seq}: it was altered")


def test_an_event_that_nobody_can_read(admin, operator, altered):
    """Digits without end: Python refuses to read them."""
    victim, seq = altered
    admin.run(
        "UPDATE app.audit_events SET data = CAST(repeat('9', 5000) AS jsonb) WHERE tenant_id = :id AND seq = :seq",
        id=victim,
        seq=seq,
    )
    answer = operator("verify", "--organization", victim)
    assert (answer.returncode, answer.stdout.splitlines()[0]) == (1, f"{victim}: broken at seq {seq}: it is no event")


def test_a_whole_one_holds(api, admin, asked, alice):
    write(api, alice, "Atlas")
    answer = asked("verify", "--organization", alice.tenant_id)
    assert (answer["exit_code"], answer["chains"], answer["broken"]) == (0, 1, [])
    assert answer["events"] == last(admin, alice)


@pytest.mark.parametrize(
    ("change", "offset"),
    [
        ("DELETE FROM app.audit_events WHERE tenant_id = :id AND seq = :last", 0),
        (
            "UPDATE app.audit_heads SET seq = :last - 1, hash = (SELECT prev_hash FROM app.audit_events"
            " WHERE tenant_id = :id AND seq = :last) WHERE tenant_id = :id",
            0,
        ),
        (
            "UPDATE app.audit_heads SET base_seq = 1, base_hash = (SELECT hash FROM app.audit_events"
            " WHERE tenant_id = :id AND seq = 1) WHERE tenant_id = :id AND :last > 0",
            None,
        ),
    ],
    ids=["cut", "head", "base"],
)
def test_what_the_links_do_not_show(api, admin, asked, alice, change, offset):
    write(api, alice, "Atlas", "Borea")
    end = last(admin, alice)
    admin.run(change, id=alice.tenant_id, last=end)

    (line,) = asked("verify", "--organization", alice.tenant_id)["broken"]

    assert line["seq"] == (1 if offset is None else end + offset)


def test_the_platforms_own_chain(asked, operator):
    """It tells of the verification, and of every other act."""
    first = asked("verify", "--organization", PLATFORM, "--reason", "weekly check")
    assert (first["exit_code"], first["events"] > 0) == (0, True)

    shown = asked("audit", "--limit", "5")["events"]

    event = next(event for event in shown if event["request_id"] == first["request_id"])
    assert (event["action"], event["resource"], event["data"]["reason"]) == (
        "audit.verified",
        {"type": "audit", "id": PLATFORM},
        "weekly check",
    )
    assert operator("audit").stdout.splitlines()[-1].split()[2] == "audit.read"


def test_nobody_by_that_id(asked, told):
    answer = asked("verify", "--organization", "00000000-0000-4000-8000-00000000dead")
    assert (answer["exit_code"], answer["outcome"]) == (1, "unknown")
    assert told.one(answer["request_id"])[1] == "failure"
