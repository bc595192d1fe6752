"""The audit chain: every event hashed over the one before, checked by us and by the stand-alone verifier."""

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.audit import canonical
from tests.conftest import CHECKOUT, Api


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


def verify_file(tmp_path, lines):
    path = tmp_path / "chain.ndjson"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "common.audit", "verify", str(path)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30)


def test_it_verifies(api, tmp_path, busy):
    verdict = api.get("/v1/audit-events/verify", headers=busy).json

    assert verdict["valid"] is True
    assert verdict["first_broken_seq"] is None
    assert verdict["checked"] == verdict["head"]["seq"] == 5
    chain = events(api, busy)
    assert [event["seq"] for event in chain] == list(range(1, len(chain) + 1))
    assert verify_file(tmp_path, chain).returncode == 0
    assert {event["outcome"] for event in chain} == {"success", "denied"}
    assert chain[3]["personal"]["user_agent"].startswith("odd")


ALTERATIONS = {
    "data": "UPDATE app.audit_events SET data = '{\"forged\": 1}' WHERE tenant_id = :t AND seq = 2",
    "action": "UPDATE app.audit_events SET action = 'project.seen' WHERE tenant_id = :t AND seq = 2",
    "time": "UPDATE app.audit_events SET at = at + interval '1 microsecond' WHERE tenant_id = :t AND seq = 2",
    "actor": "UPDATE app.audit_events SET actor_id = gen_random_uuid() WHERE tenant_id = :t AND seq = 2",
    "personal": 'UPDATE app.audit_events SET personal = \'{"ip": "9.9.9.9"}\' WHERE tenant_id = :t AND seq = 2',
    "personal nulled without its event": "UPDATE app.audit_events SET personal = NULL, personal_salt = NULL"
    " WHERE tenant_id = :t AND seq = 2",
    "removed": "DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 2",
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_alteration_is_found(api, admin, tmp_path, busy, alteration):
    admin.run(ALTERATIONS[alteration], t=busy.tenant_id)

    verdict = api.get("/v1/audit-events/verify", headers=busy).json
    assert (verdict["valid"], verdict["first_broken_seq"]) == (False, 2)
    done = verify_file(tmp_path, events(api, busy))
    assert done.returncode == 1
    assert "broken at seq 2" in done.stdout


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
    found = admin.run("SELECT platform.canonical_json(CAST(:value AS jsonb))", value=json.dumps(value))
    assert found == [[canonical(value)]]
