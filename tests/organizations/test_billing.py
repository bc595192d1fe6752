"""GET and PATCH /v1/billing, GET /v1/invoices."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pg8000.native
import pytest

from functions.organizations.billing_schemas import VAT_NUMBERS
from local.seed_demo import INVOICES
from tests.conftest import Api, database, last_audit_event, wait_until
from tests.deletions.conftest import Backstage, Erasures
from tests.exports.conftest import Exports
from tests.organizations.keys import make

NOTHING = {"company": None, "address": None, "vat_id": None, "email": None}
ACME = {
    "company": "Ä & Söhne GmbH 🚀",
    "address": "Hauptstraße 1\n10115 Berlin\nGermany",
    "vat_id": "DE123456789",
    "email": "invoices@example.org",
}


def refused(answer, status, code):
    return (answer.status_code, answer.json["code"]) == (status, code)


def invoice(admin, person, number, *, days=0, total=11900, currency="EUR", status="open"):
    """The id of an invoice that the platform wrote so many days ago."""
    return str(
        admin.run(
            "SELECT platform.put_invoice(:t, :number, now() - make_interval(days => :days), :total, :currency,"
            " :status)",
            t=person.tenant_id,
            number=number,
            days=days,
            total=total,
            currency=currency,
            status=status,
        )[0][0]
    )


# The address.


def test_it_works(api, admin, alice):
    before = api.get("/v1/billing", headers=alice)
    assert (before.status_code, before.json, before.headers["ETag"]) == (200, {**NOTHING, "version": 1}, '"1"')

    answer = api.patch("/v1/billing", json=ACME, headers={**alice, "If-Match": '"1"'})

    assert (answer.status_code, answer.json, answer.headers["ETag"]) == (200, {**ACME, "version": 2}, '"2"')
    event = last_audit_event(admin, alice)
    assert api.get("/v1/billing", headers=alice).json == answer.json
    assert (event["action"], event["data"]) == ("billing.updated", {"fields": sorted(ACME)})
    assert ACME["email"] not in json.dumps(event)


def test_what_a_change_does_not_name_stays(api, alice):
    api.patch("/v1/billing", json=ACME, headers=alice)

    assert api.patch("/v1/billing", json={"company": "Other"}, headers=alice).json == {
        **ACME,
        "company": "Other",
        "version": 3,
    }
    assert api.patch("/v1/billing", json={"vat_id": None}, headers=alice).json["vat_id"] is None
    assert api.get("/v1/billing", headers=alice).json["address"] == ACME["address"]


def test_a_stale_version(api, alice):
    assert refused(
        api.patch("/v1/billing", json=ACME, headers={**alice, "If-Match": '"2"'}), 412, "precondition_failed"
    )
    assert api.get("/v1/billing", headers=alice).json["version"] == 1
    assert api.patch("/v1/billing", json=ACME, headers={**alice, "If-Match": '"1"'}).status_code == 200
    for stale in ('"1"', '"3"', 'W/"2"'):
        answer = api.patch("/v1/billing", json=ACME, headers={**alice, "If-Match": stale})
        assert refused(answer, 412, "precondition_failed"), stale
    assert api.patch("/v1/billing", json=ACME, headers={**alice, "If-Match": '"2"'}).json["version"] == 3


@pytest.mark.parametrize("version", [1, 2])
def test_of_many_at_once_one_wins(stack, admin, alice, api, version):
    """All of them have read the same version, and stand before the row together when the one before lets it go."""
    if version == 2:
        api.patch("/v1/billing", json=ACME, headers=alice)
    ahead = "UPDATE app.billing SET company = company WHERE tenant_id = :t"
    if version == 1:
        ahead = "INSERT INTO app.billing (tenant_id) VALUES (:t)"

    def change(number):
        body = {"company": f"Company {number}"}
        return Api(stack["api"]).patch("/v1/billing", json=body, headers={**alice, "If-Match": f'"{version}"'})

    def waiting():
        found = admin.run(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%app.billing AS b%'"
        )
        return found == [[4]]

    with database(stack["postgres"]["admin"]) as other, ThreadPoolExecutor(4) as pool:
        other.run("BEGIN")
        other.run(ahead, t=alice.tenant_id)
        answers = [pool.submit(change, number) for number in range(4)]
        wait_until(waiting, 10, "that all of them wait")
        other.run("ROLLBACK")
        codes = sorted(answer.result().status_code for answer in answers)

    assert codes == [200] + [412] * 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("de 123 456 789", "DE123456789"),  # pragma: allowlist secret
        ("ATU12345678", "ATU12345678"),
        ("BE0123.456.789", "BE0123456789"),  # pragma: allowlist secret
        ("EL123456789", "EL123456789"),
        ("ESX1234567R", "ESX1234567R"),
        ("FRXX123456789", "FRXX123456789"),
        ("IE1234567WA", "IE1234567WA"),
        ("NL123456789B01", "NL123456789B01"),
        ("XI123456789", "XI123456789"),
        ("CHE-123.456.789 MWST", "CHE123456789MWST"),
    ],
)
def test_vat_numbers(api, alice, given, kept):
    answer = api.patch("/v1/billing", json={"vat_id": given}, headers=alice)
    assert (answer.status_code, answer.json.get("vat_id")) == (200, kept), answer.text


def test_every_member_state_has_its_form():
    union = "AT BE BG CY CZ DE DK EE EL ES FI FR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
    assert set(union.split()) <= set(VAT_NUMBERS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vat_id", "DE12345678"),
        ("vat_id", "DE1234567890"),
        ("vat_id", "DE12345678９"),
        ("vat_id", "DE123456789\n"),
        ("vat_id", "GR123456789"),
        ("vat_id", "US123456789"),
        ("vat_id", ""),
        ("vat_id", 123456789),
        ("company", ""),
        ("company", "x" * 256),
        ("address", "x" * 1001),
        ("address", "\x00"),
        ("email", "nobody"),
        ("email", f"{'x' * 250}@example.org"),
        ("version", 7),
    ],
)
def test_what_is_not_valid(api, alice, field, value):
    answer = api.patch("/v1/billing", json={field: value}, headers=alice)
    assert refused(answer, 422, "invalid_request"), answer.text
    assert list(answer.json["errors"]) == [field]


def test_who_may(api, people, alice, dan, vera):
    adam = people.create("admin", alice.tenant_id)
    assert api.get("/v1/billing", headers=adam).status_code == 200
    assert refused(api.patch("/v1/billing", json=ACME, headers=adam), 403, "permission_denied")
    for person in (dan, vera):
        assert refused(api.get("/v1/billing", headers=person), 403, "permission_denied")
        assert refused(api.get("/v1/invoices", headers=person), 403, "permission_denied")


def test_another_organization(api, admin, alice, mallory):
    api.patch("/v1/billing", json=ACME, headers=alice)
    invoice(admin, alice, "R-1")

    assert api.get("/v1/billing", headers=mallory).json == {**NOTHING, "version": 1}
    assert api.get("/v1/invoices", headers=mallory).json["items"] == []


def test_an_api_key(api, alice):
    key = make(api, alice, "billing.view")
    assert api.get("/v1/billing", headers=key).status_code == 200
    assert api.get("/v1/invoices", headers=key).status_code == 200
    assert refused(api.patch("/v1/billing", json=ACME, headers=key), 403, "permission_denied")


# Invoices.


def test_invoices_newest_first(api, admin, alice):
    made = [invoice(admin, alice, f"R-{days}", days=days) for days in (3, 1, 2)]

    first = api.get("/v1/invoices?limit=2", headers=alice)
    second = api.get(f"/v1/invoices?limit=2&cursor={first.json['next_cursor']}", headers=alice)

    items = first.json["items"] + second.json["items"]
    assert [item["number"] for item in items] == ["R-1", "R-2", "R-3"]
    assert {item["id"] for item in items} == set(made)
    assert set(items[0]) == {"id", "number", "issued_at", "total", "currency", "status"}
    assert (items[0]["total"], items[0]["currency"], items[0]["status"]) == (11900, "EUR", "open")
    assert items[0]["issued_at"].endswith("Z")
    assert second.json["next_cursor"] is None


def test_invoices_by_status(api, admin, alice):
    invoice(admin, alice, "R-1", status="paid")
    invoice(admin, alice, "R-2", status="open", total=-9007199254740991)

    found = api.get("/v1/invoices?status=open", headers=alice).json["items"]

    assert [(item["number"], item["total"]) for item in found] == [("R-2", -9007199254740991)]
    assert refused(api.get("/v1/invoices?status=lost", headers=alice), 422, "invalid_request")
    page = api.get("/v1/invoices?limit=1", headers=alice).json["next_cursor"]
    assert refused(api.get(f"/v1/invoices?status=open&cursor={page}", headers=alice), 400, "invalid_cursor")


def test_what_is_written_stays(api, admin, alice):
    """Writing a number again changes its status alone; later addresses change no earlier invoice."""
    api.patch("/v1/billing", json=ACME, headers=alice)
    first = invoice(admin, alice, "R-1", total=100)
    before = admin.run("SELECT issued_at, billed_to FROM app.invoices WHERE id = :id", id=first)
    api.patch("/v1/billing", json={"company": "Other"}, headers=alice)

    again = invoice(admin, alice, "R-1", total=999, currency="USD", status="paid", days=9)

    found = api.get("/v1/invoices", headers=alice).json["items"]
    assert [(item["id"], item["total"], item["currency"], item["status"]) for item in found] == [
        (first, 100, "EUR", "paid")
    ]
    assert again == first
    after = admin.run("SELECT issued_at, billed_to FROM app.invoices WHERE id = :id", id=first)
    assert after == before
    assert after[0][1] == {name: ACME[name] for name in ("company", "address", "vat_id")}


def test_an_invoice_is_the_platforms_to_write(stack, admin, alice):
    assert admin.run("SELECT platform.put_invoice(gen_random_uuid(), 'R-1', now(), 1, 'EUR', 'open')") == [[None]]
    for bad in ("'R-1', now(), 1, 'eur', 'open'", "'R-1', now(), 1, 'EUR', 'lost'", "'', now(), 1, 'EUR', 'open'"):
        with pytest.raises(pg8000.native.DatabaseError, match="invoices_"):
            admin.run(f"SELECT platform.put_invoice('{alice.tenant_id}', {bad})")
    holders = admin.run(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE '%\\_fn' AND (has_table_privilege(oid, 'app.invoices',"
        " 'INSERT, UPDATE, DELETE') OR has_function_privilege(oid,"
        " 'platform.put_invoice(uuid, text, timestamptz, bigint, text, text)', 'EXECUTE'))"
    )
    assert holders == []


# What becomes of it.


def rows(certificate, part):
    return {entry["table"]: entry for entry in certificate[part]}


def test_a_gone_organization_leaves_its_invoices(api, admin, alice):
    api.patch("/v1/billing", json=ACME, headers=alice)
    make(api, alice, "project.view")
    kept = [invoice(admin, alice, f"R-{number}") for number in range(2)]
    plan = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=alice).json["plan"]
    planned = {(entry["table"], entry["action"]): entry for entry in plan}
    assert planned["app.invoices", "keep"]["rows"] == 2
    assert (planned["app.billing", "delete"]["rows"], planned["app.api_keys", "delete"]["rows"]) == (1, 1)

    certificate = Erasures(api, admin).erase(alice)

    stays = rows(certificate, "retained")["app.invoices"]
    assert stays["rows"] == 2
    assert stays["ground"].startswith("Art. 17(3)(b)")
    assert stays["until"] == "7 years after issued_at"
    erased = rows(certificate, "tables")
    assert (erased["app.billing"]["rows"], erased["app.api_keys"]["rows"]) == (1, 1)
    assert (erased["app.invoices"]["action"], erased["app.invoices"]["rows"]) == ("null", 2)  # whom it was billed to
    left = admin.run(
        "SELECT id::text, billed_to FROM app.invoices WHERE tenant_id = :t ORDER BY number", t=alice.tenant_id
    )
    assert left == [[each, None] for each in kept]
    for table in ("app.billing", "app.api_keys", "app.organizations"):
        assert admin.run(f"SELECT count(*) FROM {table} WHERE tenant_id = :t", t=alice.tenant_id) == [[0]]


def test_a_leaving_member_takes_her_keys_along(api, admin, people, alice):
    adam = people.create("admin", alice.tenant_id)
    invoice(admin, alice, "R-1")
    api.patch("/v1/billing", json=ACME, headers=alice)
    other = make(api, alice, "project.view")
    gone = make(api, adam, "project.view", "project.create")
    deleted = make(api, adam, "project.view")
    for key in (gone, deleted, other):
        assert api.get("/v1/members", headers=key).status_code == 403  # an event of the key
    assert api.delete(f"/v1/api-keys/{deleted.id}", headers=adam).status_code == 204
    plan = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=adam).json["plan"]
    planned = {(entry["table"], entry["action"]): entry["rows"] for entry in plan}

    certificate = Erasures(api, admin).erase(adam)

    erased = {(entry["table"], entry["action"]): entry["rows"] for entry in certificate["tables"]}
    assert erased["app.api_keys", "delete"] == planned["app.api_keys", "delete"] == 1
    assert erased["app.audit_events", "null"] == planned["app.audit_events", "null"] + 1  # her request
    assert not {"app.invoices", "app.billing"} & {table for table, _ in erased}
    assert "app.invoices" not in rows(certificate, "retained")
    assert refused(api.get("/v1/projects", headers=gone), 401, "invalid_token")
    assert api.get("/v1/projects", headers=other).status_code == 200
    personal = admin.run(
        "SELECT actor_id::text, personal IS NULL FROM app.audit_events WHERE tenant_id = :t AND actor_type = 'api_key'"
        " AND action = 'access.denied'",
        t=alice.tenant_id,
    )
    assert sorted(personal) == sorted([[gone.id, True], [deleted.id, True], [other.id, False]])
    assert api.get("/v1/audit-events/verify", headers=alice).json["valid"] is True


def test_a_copy_holds_her_keys_without_their_hashes(api, alice, dan):
    key = make(api, alice, "project.view")

    exports = Exports(api)
    copied = exports.package(alice).rows("api_keys")

    assert [(row["id"], row["prefix"], row["permissions"]) for row in copied] == [
        (key.id, key.made["prefix"], ["project.view"])
    ]
    assert "key_hash" not in copied[0]
    assert exports.package(dan).rows("api_keys") == []


def test_their_time(stack, api, admin, alice):
    old, young = invoice(admin, alice, "R-1", days=366 * 7 + 2), invoice(admin, alice, "R-2", days=364 * 7)
    past, recent = make(api, alice, "project.view"), make(api, alice, "project.view")
    for key, days in ((past, 91), (recent, 89)):
        admin.run(
            "UPDATE app.api_keys SET expires_at = now() - make_interval(days => :days) WHERE id = :id",
            days=days,
            id=key.id,
        )

    answer = Backstage(stack, api, admin).call("retention", "scheduler", "/internal/retention/run")

    assert answer.status_code == 200, answer.text
    left = admin.run("SELECT id::text FROM app.invoices WHERE id IN (:a, :b)", a=old, b=young)
    assert left == [[young]]
    left = admin.run("SELECT id::text FROM app.api_keys WHERE id IN (:a, :b)", a=past.id, b=recent.id)
    assert left == [[recent.id]]


def test_the_demo_organization_has_some(stack, admin):
    def demo():
        return json.loads(Path(stack["path"]).read_text())["demo"]

    organization = wait_until(demo, 60, "the demo account")["organization_id"]
    found = admin.run("SELECT number, status FROM app.invoices WHERE tenant_id = :t ORDER BY number", t=organization)
    assert found == [[number, status] for number, _, status in INVOICES]
