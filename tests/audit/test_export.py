"""GET /v1/audit-events/export: the whole chain as a file that anybody can check, in pages of 16 MiB at most."""

import json
from typing import Any

import pytest

from tests.audit.conftest import Ledger
from tests.conftest import Api, People, Person, last_audit_event

EXPORT = "/v1/audit-events/export"
PAGE = 16 * 1024 * 1024


def test_it_works(api: Api, admin: Any, alice: Person, vera: Person, ledger: Ledger) -> None:
    for name in ("Atlas", 'Quote " \\ / \u2028', "emoji 🧑‍🚀"):
        agent = {"User-Agent": f'odd "{name}" \\ \u00ff'.encode("latin-1", "replace").decode("latin-1")}
        assert api.post("/v1/projects", json={"name": name}, headers={**alice, **agent}).status_code == 201
    assert api.post("/v1/projects", json={"name": "x"}, headers=vera).status_code == 403
    anchor = ledger.anchor(3)

    (page,) = ledger.pages()

    *events, statement = [json.loads(line) for line in page.splitlines()]
    assert page.endswith(b"}\n")
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert events[:4] == sorted(
        [e for e in api.get("/v1/audit-events", headers=alice).json["items"] if e["seq"] < 5], key=lambda e: e["seq"]
    )
    reading = events[4]
    assert (reading["action"], reading["actor"]["id"], reading["data"]) == (
        *("audit.exported", alice.user_id),
        {"from_seq": 1},
    )
    keys = api.get("/v1/audit-events/keys").json["keys"]
    assert {name: statement[name] for name in ("kind", "organization_id", "base", "head", "checkpoint", "keys")} == {
        "kind": "audit_statement",
        "organization_id": alice.tenant_id,
        "base": {"seq": 0, "hash": "0" * 64},
        "head": {"seq": 5, "hash": reading["hash"]},
        "checkpoint": None,
        "keys": keys,
    }
    assert statement["anchored"] == {**anchor["head"], "at": anchor["at"]}
    assert set(statement) == {
        *("kind", "organization_id", "base", "head", "anchored", "checkpoint", "keys", "at"),
        *("hash", "signature", "key_id"),
    }
    assert ledger.audited(ledger.file(), anchor=anchor) is None, ledger.said


def test_pages_of_16_mib(admin: Any, ledger: Ledger) -> None:
    """Without a gap, although each page is an event itself; the last one is closed."""
    admin.run(
        "SELECT platform.record_event(CAST(:t AS uuid), 'x.y', 'x', NULL, jsonb_build_object('x', CAST(:x AS text)),"
        " 'r') FROM generate_series(1, 20)",
        t=ledger.id,
        x="y" * 880_000,
    )

    pages = ledger.pages()

    assert len(pages) == 2
    assert PAGE - 2 * 1024 * 1024 < len(pages[0]) <= PAGE
    seqs = [json.loads(line).get("seq") for page in pages for line in page.splitlines()]
    assert seqs == [*range(1, 23), None]
    file = ledger.folder / "export.ndjson"
    file.write_bytes(b"".join(pages))
    assert ledger.audited(file) is None, ledger.said
    file.write_bytes(pages[0])
    assert ledger.audited(file) == 1 + len(pages[0].splitlines())
    rows = admin.run(
        "SELECT data FROM app.audit_events WHERE tenant_id = :t AND action = 'audit.exported' ORDER BY seq", t=ledger.id
    )
    assert rows == [[{"from_seq": 1}], [{"from_seq": 1 + len(pages[0].splitlines())}]]


def test_from_where_somebody_stopped(api: Api, ledger: Ledger) -> None:
    ledger.write(4)
    answer = api.get(f"{EXPORT}?from_seq=3", headers=ledger.person)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line.get("seq") for line in lines] == [3, 4, 5, None]
    own = api.get(f"{EXPORT}?from_seq=6", headers=ledger.person)  # nothing but this very request is there yet
    assert [json.loads(line).get("seq") for line in own.text.splitlines()] == [6, None]


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "1.5", "9007199254740992", "99", "", "6", "1&more=1"])
def test_from_where_nothing_is(api: Api, admin: Any, ledger: Ledger, wrong: str) -> None:
    ledger.write(4)
    answer = api.get(f"{EXPORT}?from_seq={wrong}", headers=ledger.person)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), answer.text
    assert last_audit_event(admin, ledger.person)["seq"] == 4


def test_from_where_everything_is_dropped(api: Api, ledger: Ledger) -> None:
    ledger.write(4)
    ledger.anchor(3)
    ledger.move_base(3)
    answer = api.get(f"{EXPORT}?from_seq=3", headers=ledger.person)
    assert answer.status_code == 422
    assert "begin at 4" in answer.json["errors"]["from_seq"][0]
    (page,) = ledger.pages()
    assert [json.loads(line).get("seq") for line in page.splitlines()] == [4, 5, None]


def test_a_chain_without_events_yet(ledger: Ledger) -> None:
    assert ledger.verdict()["checked"] == 0
    assert ledger.audited(ledger.file()) is None
    assert "1 events checked" in ledger.said


def test_who_may(api: Api, people: People, alice: Person, vera: Person, mallory: Person) -> None:
    assert api.get(EXPORT, headers=vera).status_code == 403
    assert api.get(EXPORT).status_code == 401
    assert alice.tenant_id not in api.get(EXPORT, headers=mallory).text
    body = {"name": "auditor", "permissions": ["audit.view"]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=alice).json['key']}"}
    answer = api.get(EXPORT, headers=key)
    assert (answer.status_code, json.loads(answer.text.splitlines()[-2])["actor"]["type"]) == (200, "api_key")
    assert api.get("/v1/audit-events/verify", headers=key).json["valid"] is True


def test_the_keys_are_public(api: Api) -> None:
    keys = api.get("/v1/audit-events/keys").json["keys"]
    assert keys
    assert all(len(key) == 43 for key in keys.values())
    assert keys.keys().isdisjoint(api.get("/v1/deletions/certificate-keys").json["keys"])
