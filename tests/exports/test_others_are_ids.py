"""A person's copy says nothing of anybody else but ids (Art. 15(4) GDPR), whatever they have done together."""

import io
import json
import uuid
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import PASSWORD

STRANGERS_ADDRESS = "203.0.113.77"
PERSONS = {"user_id", "created_by", "assignee_id", "invited_by", "actor_id", "requested_by", "subject_account_id"}


def content(package):
    """Everything in the package, as text."""
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        return "\n".join(archive.read(name).decode() for name in archive.namelist())


@pytest.fixture
def together(api, admin, people, alice, dan, vera):
    """Alice and Dan have worked together, invited somebody, were guests of each other, and had trouble."""
    invited = f"invited-{uuid.uuid4().hex[:8]}@example.org"
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    for maker, assignee in ((alice, dan), (dan, alice), (vera, None)):
        api.post(
            f"/v1/projects/{project}/tasks",
            json={"title": "together", "assignee_id": assignee and assignee.user_id},
            headers=maker,
        )
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = api.post("/v1/invitations", json={"email": invited, "role": "viewer"}, headers={**alice, **key})
    assert made.status_code == 201
    api.post(f"/v1/invitations/{made.json['id']}/resend", headers=alice)
    team = api.post("/v1/teams", json={"name": "Makers"}, headers=alice).json["id"]
    for person in (alice, dan, vera):
        assert api.put(f"/v1/teams/{team}/members/{person.user_id}", headers=alice).status_code in (201, 204)
    api.patch(f"/v1/members/{dan.user_id}", json={"role": "admin"}, headers=alice)
    api.get("/v1/members", headers=alice)
    robot = api.post("/v1/api-keys", json={"name": "robot", "permissions": ["project.view"]}, headers=alice)
    assert robot.status_code == 201
    others = api.post("/v1/exports", json={"scope": "user", "user_id": dan.user_id}, headers=alice)
    assert others.status_code == 202
    return {"invited": invited}


def test_it_works(api, admin, alice, dan, vera, mallory, together, exports):
    text = content(exports.package(alice))

    assert alice.email in text
    assert dan.user_id in text
    for other in (dan, vera, mallory):
        assert other.email not in text
        assert other.name not in text
    assert together["invited"] not in text
    assert mallory.user_id not in text


def test_not_in_csv_either(alice, dan, vera, together, exports):
    text = content(exports.package(alice, format="csv"))
    for secret in (dan.email, dan.name, vera.email, vera.name, together["invited"]):
        assert secret not in text


def test_others_show_in_columns_of_ids_alone(alice, dan, vera, together, exports):
    package = exports.package(alice)
    for name in package.archive.namelist():
        if name.startswith("data/"):
            for row in package.rows(name[5:-5]):
                for column, value in row.items():
                    shown = json.dumps(value)
                    if dan.user_id in shown or vera.user_id in shown:
                        assert column in PERSONS | {"resource_id", "data"}, (name, column)


def test_whoever_guessed_her_password_is_not_shown(api, admin, alice, exports):
    """That somebody tried she is told, not from where: it is another's address, most likely."""
    failed = api.post("/v1/auth/login", json={"email": alice.email, "password": PASSWORD + "!"})
    assert failed.status_code == 401
    admin.run(
        "UPDATE app.audit_events SET personal = jsonb_build_object('ip', CAST(:ip AS text), 'user_agent', 'Guesser')"
        " WHERE tenant_id = :t AND action = 'login.failed'",
        ip=STRANGERS_ADDRESS,
        t=alice.tenant_id,
    )
    api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, "User-Agent": "Her own browser"})

    package = exports.package(alice)

    events = {row["action"]: row for row in package.rows("audit_events")}
    assert events["login.failed"]["resource_id"] == alice.user_id
    assert events["login.failed"]["personal"] is None
    assert events["project.created"]["personal"]["user_agent"] == "Her own browser"
    assert STRANGERS_ADDRESS not in content(package)
    assert "Guesser" not in content(package)


def test_who_was_invited_sees_by_which_id(api, people, alice, exports):
    guest = people.create("owner")
    api.post("/v1/invitations", json={"email": guest.email, "role": "viewer"}, headers=alice)
    people.join(guest.user_id, alice.tenant_id, "viewer")

    package = exports.package(guest)

    (row,) = package.rows("invitations")
    assert (row["email"], row["invited_by"]) == (guest.email, alice.user_id)
    assert alice.email not in content(package)


def test_audit_data_names_nobody(api, admin, alice, dan, together):
    """`data` holds no personal data, by contract: no address, no name, whatever happened."""
    rows = admin.run("SELECT CAST(data AS text) FROM app.audit_events WHERE tenant_id = :t", t=alice.tenant_id)
    assert len(rows) > 8
    for (data,) in rows:
        for secret in (dan.email, dan.name, alice.email, together["invited"], "@"):
            assert secret not in data


def test_what_was_noted_about_another_is_not_hers(api, alice, dan, exports):
    """An officer's note on a letter stands in the copy of whom it is about."""
    note = f"note {uuid.uuid4().hex}"
    letter = {"kind": "export", "user_id": dan.user_id, "note": note}
    letter["received_at"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    asked = api.post("/v1/privacy/requests", json=letter, headers=alice)
    assert asked.status_code == 202, asked.text

    hers = {row["id"]: row for row in exports.package(alice).rows("exports")}
    assert hers[asked.json["id"]]["note"] is None
    assert note in content(exports.package(dan))
