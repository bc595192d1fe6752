"""A chain that an administrator has tampered with: what its people, its auditors and everybody else get."""

import json
from collections.abc import Iterator

import pytest

from functions.audit.chain_queries import BATCH, LINES
from local.layout import Layout
from tests.audit.conftest import Ledger
from tests.conftest import Api, Person

DOUBLE = (
    "INSERT INTO app.audit_events SELECT tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id,"
    " outcome, request_id, data, personal, personal_salt, personal_hash, prev_hash, hash FROM app.audit_events"
    " WHERE tenant_id = :t AND seq = {0}"
)
PUT_BACK = "UPDATE app.audit_heads SET seq = 0 WHERE tenant_id = :t"


@pytest.fixture
def unguarded(ledger: Ledger) -> Iterator[Ledger]:
    """A chain in a table without its primary key."""
    ledger.run("ALTER TABLE app.audit_events DROP CONSTRAINT audit_events_pkey")
    yield ledger
    ledger.run(
        "DELETE FROM app.audit_events WHERE tenant_id = :t",
        "ALTER TABLE app.audit_events ADD CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, seq)",
    )


def test_a_double_does_not_hide_between_two_batches(unguarded: Ledger) -> None:
    """Each reader goes on behind the last seq that it has seen: the double of that one would never be seen."""
    unguarded.write(BATCH + 1)

    unguarded.run(DOUBLE.format(BATCH))
    assert unguarded.verdict()["first_broken_seq"] == BATCH
    pages = [
        unguarded.admin.run(f"SELECT count(*) FROM platform.{name}(CAST(:t AS uuid), 0, {BATCH})", t=unguarded.id)
        for name in ("audit_page", "audit_links")
    ]
    assert pages == [[[BATCH + 1]]] * 2
    unguarded.run(DOUBLE.format(LINES))
    assert unguarded.audited(unguarded.file()) == LINES, unguarded.said


def test_without_a_record_nothing_changes_and_the_operator_is_told(
    api: Api, ledger: Ledger, alice: Person, mallory: Person
) -> None:
    """A head that was put back takes no event: 503, which says why, and not a defect of ours."""
    ledger.write(2)
    ledger.run(PUT_BACK)

    answer = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)

    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert "audit trail" in answer.json["detail"]
    assert answer.headers["Retry-After"] == "60"
    assert api.get("/v1/projects", headers=alice).json["items"] == []
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=mallory).status_code == 201
    log = Layout.load(ledger.aging.layout.path("layout.json")).path("log", "projects.log").read_text()
    (entry,) = [json.loads(line) for line in log.splitlines() if line.startswith("{") and ledger.id in line]
    assert (entry["severity"], entry["message"]) == ("CRITICAL", "an audit chain takes no event")
