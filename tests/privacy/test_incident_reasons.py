"""What stands for a reason in an incident are words: blanks neither close it nor excuse a late notice."""

import uuid

import pytest

from tests.conftest import Api, Person
from tests.privacy.incidents import COMPLETE, Officer, ago

BLANK = " \t\n"


@pytest.fixture
def officer(api: Api, admin, alice: Person) -> Officer:
    return Officer(api, admin, alice)


@pytest.mark.parametrize("field", ["title", "no_notification_reason", "no_communication_reason"])
def test_blanks_are_no_words(officer: Officer, field: str) -> None:
    made = officer.open()
    answer = officer.change(made["id"], **{field: BLANK})
    assert (answer.status_code, answer.json["errors"]) == (422, {field: ["Must not be blank."]})
    if field != "title":
        assert officer.change(made["id"], **{field: "because"}).status_code == 200
        assert officer.change(made["id"], **{field: ""}).status_code == 200, "a reason can be taken back"


def test_a_late_notice_is_not_excused_by_blanks(officer: Officer) -> None:
    made = officer.open(detected_at=ago(hours=73))
    answer = officer.tell(made["id"], delay_reason=BLANK)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["delay_reason"])


@pytest.mark.parametrize(
    ("values", "lacks"),
    [
        ("risk = 'unlikely', no_notification_reason = E' \\t\\n'", "notification"),
        ("risk = 'high', no_communication_reason = E' \\t\\n'", "communication"),
    ],
)
def test_the_database_says_so_too(admin, officer: Officer, values: str, lacks: str) -> None:
    """However they came there: by an import, or from before."""
    made = officer.open()
    if lacks == "communication":
        assert officer.tell(made["id"]).status_code == 201
    admin.run(f"UPDATE app.incidents SET {values} WHERE id = :id", id=made["id"])
    rows = admin.run(
        "SELECT app.incident_lacks(i), app.incident_undecided(i) FROM app.incidents i WHERE id = :id", id=made["id"]
    )
    assert rows == [[lacks, lacks == "notification"]]


def test_a_draft_that_is_too_long_for_a_mail_is_refused(officer: Officer) -> None:
    made = officer.open(**{**COMPLETE, "description": "d" * 9000, "consequences": "c" * 9000})
    answer = officer.call("POST", f"/{made['id']}/notices/subjects", json={})
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert "10,000" in answer.json["detail"]


def test_an_organization_that_is_being_erased_gets_no_new_record(admin, alice: Person, mallory: Person) -> None:
    """Nor its chain an event: what is being taken away does not grow. The operator sees it as untold."""
    job, incident = str(uuid.uuid4()), str(uuid.uuid4())
    admin.run("BEGIN")
    admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'deletion', 'running')", id=job)
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
        " VALUES (:id, :u, 'me', now(), now(), 'x')",
        id=job,
        u=alice.user_id,
    )
    admin.run(
        "INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode) VALUES (:id, :t, 'whole')",
        id=job,
        t=alice.tenant_id,
    )
    both = [alice.tenant_id, mallory.tenant_id]
    admin.run("SET LOCAL ROLE context_owner")
    admin.run(
        "SELECT platform.open_incident(CAST(:id AS uuid), 'x', 'P1', now(), '{}', CAST(:both AS uuid[]), '', '{}',"
        " 'test')",
        id=incident,
        both=both,
    )
    assert admin.run("SELECT platform.fan_out_incident(CAST(:id AS uuid), 50, 't')", id=incident) == [[2]]
    admin.run("RESET ROLE")
    told = "SELECT tenant_id::text FROM app.incidents WHERE platform_incident_id = :id"
    events = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND action = 'incident.opened'"
    assert admin.run(told, id=incident) == [[mallory.tenant_id]]
    assert admin.run(events, t=alice.tenant_id) == [[0]]
    admin.run("ROLLBACK")
