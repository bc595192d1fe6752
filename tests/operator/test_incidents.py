"""The platform's incident: one record in each organization that it touches, and nowhere else."""

from tests.conftest import last_audit_event


def test_open_list_close(admin, alice, mallory, asked, told, people):
    untouched = people.create("owner")
    answer = asked(
        *("incident", "open", "--title", "A backup was readable", "--severity", "P1"),
        *("--organization", alice.tenant_id, "--organization", mallory.tenant_id, "--operator", "staff-7"),
    )

    assert (answer["exit_code"], answer["organizations"], answer["opened"]) == (0, 2, 2)
    incident = answer["incident_id"]
    for person in (alice, mallory):
        assert last_audit_event(admin, person)["action"] == "incident.opened"
    events = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :id AND action = 'incident.opened'"
    assert admin.run(events, id=untouched.tenant_id) == [[0]]
    opened = next(event for event in told.of(answer["request_id"]) if event["resource_id"] == incident)
    assert (opened["action"], opened["data"]["operator"]) == ("incident.opened", "staff-7")
    listed = asked("incident", "list", "--limit", "1000")
    line = next(each for each in listed["incidents"] if each["id"] == incident)
    assert (line["severity"], line["organizations"], line["opened"]) == ("P1", 2, 2)
    assert told.one(listed["request_id"])[0] == "incident.read"
    closed = asked("incident", "close", incident, "--explanation", "nobody could have read it")
    assert (closed["exit_code"], closed["outcome"]) == (0, "closed")
    unknown = asked("incident", "close", untouched.tenant_id)
    assert (unknown["exit_code"], unknown["outcome"]) == (1, "unknown")
    assert told.one(unknown["request_id"])[:2] == ("incident.closed", "denied")


def test_by_what_the_chains_show(api, admin, alice, mallory, asked):
    """Those in whose chains the account has left something since."""
    assert api.post("/v1/projects", headers=alice, json={"name": "Atlas"}).status_code == 201
    day = admin.run("SELECT to_char(now() - interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")[0][0]
    opened = ("incident", "open", "--title", "A stolen laptop", "--severity", "P2", "--from", day)

    answer = asked(*opened, "--actor", alice.user_id)

    assert (answer["organizations"], answer["opened"]) == (1, 1)
    assert last_audit_event(admin, alice)["action"] == "incident.opened"
    stranger = ("--organization", "00000000-0000-4000-8000-00000000dead")
    refused = asked("incident", "open", "--title", "x", "--severity", "P3", *stranger)
    assert (refused["exit_code"], refused["error"]) == (1, "22023")
    nobody = asked(*opened, "--actor", "00000000-0000-4000-8000-00000000dead")
    assert (nobody["exit_code"], nobody["outcome"]) == (1, "nobody")
