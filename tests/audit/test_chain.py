"""The audit chain: every event hashed over the one before, checked by us and by the stand-alone verifier."""

import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.audit import canonical, parsed
from tests.conftest import Api


@pytest.fixture
def busy(api, alice, vera):
    """An organization with changes, refusals and readings."""
    for name in ("Atlas", 'Quote " \\ / \u2028', "emoji 🧑‍🚀 \u0001\u001f\u007f"):
        assert api.post("/v1/projects", json={"name": name}, headers=alice).status_code == 201
    assert (
        api.post("/v1/projects", json={"name": "x"}, headers={**vera, "User-Agent": 'odd "agent" \\ x'}).status_code
        == 403
    )
    assert api.get("/v1/audit-events", headers=alice).status_code == 200
    return alice


def events(api, person):
    return sorted(api.get("/v1/audit-events?limit=100", headers=person).json["items"], key=lambda event: event["seq"])


def test_it_verifies(api, busy, ledger):
    verdict = api.get("/v1/audit-events/verify", headers=busy).json

    assert verdict["valid"] is True
    assert verdict["first_broken_seq"] is None
    assert verdict["checked"] == verdict["head"]["seq"] == 5
    chain = events(api, busy)
    assert [event["seq"] for event in chain] == list(range(1, len(chain) + 1))
    assert ledger.audited(ledger.file()) is None, ledger.said
    assert {event["outcome"] for event in chain} == {"success", "denied"}
    assert chain[3]["personal"]["user_agent"].startswith("odd")


CHANGES = {
    "at": "at + interval '1 microsecond'",
    "actor_type": "'system'",
    "actor_id": "gen_random_uuid()",
    "nobody": "actor_id = NULL",
    "action": "'project.seen'",
    "resource_type": "'task'",
    "resource_id": "'another'",
    "no resource": "resource_id = NULL",
    "outcome": "'denied'",
    "request_id": "'another'",
    "data": """'{"forged": 1}'""",
    "more data": """data = data || '{"forged": null}'""",
    "a fraction": """data = '{"n": 1.0}'""",
    "personal": """'{"ip": "9.9.9.9"}'""",
    "no personal": "personal = NULL",
    "personal_salt": "repeat('a', 64)",
    "no salt": "personal_salt = NULL",
    "personal_hash": "repeat('a', 64)",
    "both": "personal = NULL, personal_salt = NULL",
    "prev_hash": "repeat('a', 64)",
    "hash": "repeat('a', 64)",
    "seq": "seq + 1000",
}
ALTERATIONS = {
    name: f"UPDATE app.audit_events SET {change if ' = ' in change else f'{name} = {change}'}"
    " WHERE tenant_id = :t AND seq = 2"
    for name, change in CHANGES.items()
}
ALTERATIONS["removed"] = "DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 2"


def test_every_column_is_among_the_alterations(admin):
    rows = admin.run(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = 'app.audit_events'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    assert {row[0] for row in rows} - {"tenant_id"} <= set(CHANGES)


def test_an_alteration_is_found(api, admin, busy, ledger):
    """Each by both verifiers, and all is well again once it is undone."""
    admin.run(
        "CREATE TEMPORARY TABLE kept AS SELECT * FROM app.audit_events WHERE tenant_id = :t AND seq = 2",
        t=busy.tenant_id,
    )
    for name, alteration in ALTERATIONS.items():
        admin.run(alteration, t=busy.tenant_id)

        verdict = api.get("/v1/audit-events/verify", headers=busy).json
        assert (verdict["valid"], verdict["first_broken_seq"]) == (False, 2), name
        assert ledger.audited(ledger.file()) == 2, name

        admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq IN (2, 1002)", t=busy.tenant_id)
        admin.run("INSERT INTO app.audit_events SELECT * FROM kept")
    assert api.get("/v1/audit-events/verify", headers=busy).json["valid"] is True


def test_a_cut_tail_is_found(api, admin, busy):
    admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 5", t=busy.tenant_id)
    verdict = api.get("/v1/audit-events/verify", headers=busy).json
    assert (verdict["valid"], verdict["first_broken_seq"]) == (False, 5)


def test_an_appended_event_is_found(api, admin, busy):
    admin.run(
        "INSERT INTO app.audit_events"
        " SELECT tenant_id, 6, at, actor_type, actor_id, action, resource_type, resource_id,"
        " outcome, request_id, data, personal, personal_salt, personal_hash, hash, hash FROM app.audit_events"
        " WHERE tenant_id = :t AND seq = 5",
        t=busy.tenant_id,
    )
    verdict = api.get("/v1/audit-events/verify", headers=busy).json
    assert (verdict["valid"], verdict["first_broken_seq"]) == (False, 6)


def test_nobody_else_reads_it(api, busy, vera, mallory):
    assert api.get("/v1/audit-events", headers=vera).status_code == 403
    assert busy.user_id not in api.get("/v1/audit-events", headers=mallory).text


def test_filters(api, busy, vera):
    def count(query):
        answer = api.get(f"/v1/audit-events?{query}", headers=busy)
        assert answer.status_code == 200, answer.text
        return len(answer.json["items"])

    assert count("action=project.created") == 3
    assert count(f"actor={vera.user_id}") == 1
    assert count("resource=project") == 3
    assert count("to=2000-01-01T00:00:00Z") == 0
    assert count("from=2000-01-01T00:00:00Z&action=access.denied") == 1
    assert api.get("/v1/audit-events?from=yesterday", headers=busy).status_code == 422


def test_concurrent_writers_leave_no_gap(stack, api, alice):
    failures = []

    def write(worker):
        client = Api(stack["api"])
        for number in range(5):
            answer = client.post("/v1/projects", json={"name": f"{worker}-{number}"}, headers=alice)
            if answer.status_code != 201:
                failures.append(answer.text)
        client._session.close()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    verdict = api.get("/v1/audit-events/verify", headers=alice).json
    assert (verdict["valid"], verdict["checked"], verdict["head"]["seq"]) == (True, 50, 50)


def test_a_rolled_back_change_leaves_no_event(api, alice):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).status_code == 409
    assert api.get("/v1/audit-events/verify", headers=alice).json["checked"] == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcXYZ_09", max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_the_database_and_python_agree_on_canonical_json(admin, value):
    found = admin.run(
        "SELECT platform.canonical_json(CAST(:value AS jsonb)), CAST(CAST(:value AS jsonb) AS text)",
        value=json.dumps(value),
    )
    assert found == [[canonical(value), found[0][1]]]
    assert canonical(parsed(found[0][1].encode())) == canonical(value)  # and back
