"""A copy holds a person's consents; an erasure leaves the proof, of an id that points to nobody, for its period."""

from typing import Any

import pytest

from tests.conftest import Api, People, Person
from tests.consents.conftest import Consents, digest
from tests.deletions.engine import Engine
from tests.exports.conftest import Exports

PLATFORM = "SELECT version, granted, ip::text, user_agent FROM identity.consents WHERE account_id = :u AND purpose = :p"
OWN = "SELECT version, granted, ip::text, user_agent FROM app.member_consents WHERE user_id = :u AND purpose = :p"


@pytest.fixture
def exports(api: Api) -> Exports:
    return Exports(api)


def rows(consents: Consents, sql: str, person: Person, purpose: str) -> Any:
    return consents.admin.run(sql, u=person.user_id, p=purpose)


def test_a_copy_holds_her_consents_and_nobody_elses(
    people: People, alice: Person, consents: Consents, exports: Exports
) -> None:
    of_platform, own = consents.of_platform(), consents.of_organization(alice, "Yours?")
    dan = people.create("developer", alice.tenant_id)
    for person in (alice, dan):
        consents.give(person, of_platform, 1, **{"User-Agent": "Browser 3"})
        consents.withdraw(person, of_platform)
        consents.give(person, own)

    package = exports.package(dan)

    first, last = package.rows("consents")
    assert {each["account_id"] for each in (first, last)} == {dan.user_id}
    assert [(each["purpose"], each["granted"]) for each in (first, last)] == [(of_platform, True), (of_platform, False)]
    assert (first["version"], first["source"], first["user_agent"]) == (1, "settings", "Browser 3")
    assert first["ip"].split("/")[0] == "127.0.0.1"
    assert first["text_hash"] == digest("May we write to you about what is new?")
    (towards,) = package.rows("member_consents")
    assert (towards["user_id"], towards["purpose"], towards["granted"]) == (dan.user_id, own, True)
    assert alice.user_id not in str(package.rows("consents"))


@pytest.mark.parametrize("policy", ["keep_pseudonymous", "erase"])
def test_the_proof_outlives_the_account(people: People, alice: Person, consents: Consents, policy: str) -> None:
    engine = Engine(consents.admin)
    of_platform, own = consents.of_platform(), consents.of_organization(alice)
    vera = people.create("viewer", alice.tenant_id)
    for person in (alice, vera):
        consents.give(person, of_platform)
        consents.give(person, own)
    rule = "UPDATE app.organizations SET settings = jsonb_build_object('erasure_policy', CAST(:p AS text))"
    rule += " WHERE tenant_id = :t"
    consents.admin.run(rule, p=policy, t=alice.tenant_id)

    plan = engine.plan(vera.user_id, alice.tenant_id)
    done = engine.erase(vera.user_id, alice.tenant_id)

    for table in ("identity.consents", "app.member_consents"):
        assert (plan[table, "null"], plan[table, "keep"], done[table, "null"]) == (1, 1, 1)
    assert rows(consents, PLATFORM, vera, of_platform) == [[1, True, None, None]]
    assert rows(consents, OWN, vera, own) == [[1, True, None, None]]
    assert rows(consents, PLATFORM, alice, of_platform)[0][2:] != [None, None]
    assert not consents.given(vera, of_platform)
    assert not consents.given(vera, own, to_organization=True)


def test_an_organization_takes_its_consents_with_it(alice: Person, consents: Consents) -> None:
    engine = Engine(consents.admin)
    of_platform, own = consents.of_platform(), consents.of_organization(alice)
    consents.give(alice, of_platform)
    consents.give(alice, own)
    opened = "SELECT platform.open_campaign(gen_random_uuid(), :p, CAST(:t AS uuid), 'Subject', 'Text', 'r')"
    assert consents.admin.run(opened, p=own, t=alice.tenant_id) == [["opened"]]

    engine.erase_in(engine.job(None, alice.tenant_id, scope="organization"), alice.tenant_id)

    assert rows(consents, OWN, alice, own) == []
    for table, column in (("app.consent_texts", "tenant_id"), ("platform.campaigns", "organization_id")):
        assert consents.admin.run(f"SELECT count(*) FROM {table} WHERE {column} = :t", t=alice.tenant_id) == [[0]]
    assert consents.given(alice, of_platform), "the platform's purpose is between her and the platform"


def test_retention_ends_the_proof(consents: Consents, vera: Person) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    consents.withdraw(vera, purpose)
    older = "UPDATE identity.consents SET at = at - interval '3 years' WHERE account_id = :u AND granted"
    consents.admin.run(older, u=vera.user_id)

    consents.admin.run("SELECT platform.retire('identity.consents', 1000)")

    assert [row[:2] for row in rows(consents, PLATFORM, vera, purpose)] == [[1, False]]
