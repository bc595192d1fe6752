"""Whatever SQL the service is made to run: no proof is changed, deleted, dated back, or written for somebody else."""

import pytest

from tests.conftest import Person
from tests.consents.conftest import Consents
from tests.tenancy.conftest import Attacker


@pytest.fixture
def attacker(stack):
    made = Attacker(stack, "consents_fn")
    yield made
    made.connection.close()


def rows(consents: Consents) -> list:
    found: list = consents.admin.run(
        "SELECT to_json(c)::text FROM identity.consents c UNION ALL SELECT to_json(c)::text FROM app.member_consents c"
        " UNION ALL SELECT to_json(t)::text FROM platform.consent_texts t"
        " UNION ALL SELECT to_json(t)::text FROM app.consent_texts t ORDER BY 1"
    )
    return found


def test_nothing_that_is_written_changes(
    attacker: Attacker, alice: Person, mallory: Person, consents: Consents
) -> None:
    purpose, own, hers = consents.of_platform(), consents.of_organization(mallory), consents.of_organization(alice)
    for person, asked in ((alice, purpose), (alice, hers), (mallory, purpose), (mallory, own)):
        consents.give(person, asked)
    before = rows(consents)
    attacker.begin_sealed(mallory)

    told = attacker.try_all(
        [
            *(
                statement.format(table)
                for table in ("identity.consents", "app.member_consents", "app.consent_texts", "platform.consent_texts")
                for statement in ("UPDATE {} SET version = 1", "DELETE FROM {}", "TRUNCATE {}", "LOCK TABLE {}")
            ),
            "UPDATE identity.consents SET granted = false",
            "UPDATE identity.consents SET at = now() - interval '1 year'",
            "INSERT INTO identity.consents (account_id, purpose, version, text_hash, granted, source, at)"
            f" SELECT '{mallory.user_id}', purpose, version, text_hash, true, 'registration', '2020-01-01'"
            f" FROM identity.consents WHERE purpose = '{purpose}'",
            "INSERT INTO app.member_consents (tenant_id, user_id, purpose, version, text_hash, granted, source, at)"
            f" VALUES ('{mallory.tenant_id}', '{mallory.user_id}', '{own}', 1, 'x', true, 'settings', '2020-01-01')",
            f"SELECT platform.record_consent('{alice.user_id}', NULL, '{purpose}', 1, false, 'settings', NULL, NULL,"
            " NULL)",
            f"SELECT identity.unsubscribe('{alice.user_id}', NULL, '{purpose}', NULL, NULL, NULL, 'x')",
            f"SELECT platform.put_consent_purpose('{purpose}', true, 'Evil')",
            f"SELECT platform.consent_given('{alice.user_id}', NULL, '{purpose}')",
            f"SELECT platform.open_campaign(gen_random_uuid(), '{purpose}', NULL, 'x', 'y', 'z')",
            "SET LOCAL ROLE context_definer",
        ]
    )

    attacker.connection.run("COMMIT")
    assert rows(consents) == before
    assert told.count("permission denied") >= 18 or told.count("42501") >= 18, told


def test_others_are_not_seen(attacker: Attacker, alice: Person, vera: Person, consents: Consents) -> None:
    """Not even within the organization: who consented is between her and who asked."""
    purpose, own = consents.of_platform(), consents.of_organization(alice)
    consents.give(vera, purpose)
    consents.give(vera, own)
    attacker.begin_sealed(alice)

    told = attacker.try_all(["SELECT * FROM identity.consents", "SELECT * FROM app.member_consents"])

    assert vera.user_id not in told
    assert attacker.connection.run("SELECT count(*) FROM identity.consents") == [[0]]


def test_a_key_of_hers_decides_nothing(stack, alice: Person, consents: Consents) -> None:
    attacker = Attacker(stack, "consents_fn", "k")
    purpose = consents.of_platform()
    consents.give(alice, purpose)
    attacker.begin_sealed(alice)

    attacker.try_all(
        [f"SELECT app.put_consent('{purpose}', NULL, false, NULL, NULL, NULL)", "SELECT * FROM identity.consents"]
    )
    assert attacker.connection.run("SELECT count(*) FROM identity.consents") == [[0]]
    attacker.connection.run("COMMIT")
    attacker.connection.close()

    assert consents.given(alice, purpose)


def test_a_text_is_made_by_who_may(attacker: Attacker, alice: Person, vera: Person, consents: Consents) -> None:
    """The route asks for the permission; so does the database, of whoever gets past that."""
    purpose = consents.of_organization(alice)
    attacker.begin_sealed(vera)

    told = attacker.try_all([f"SELECT * FROM app.put_consent_text('{purpose}', 'Evil', NULL, NULL)"])

    attacker.connection.run("COMMIT")
    assert "42501" in told or "texts are made by who may" in told
    texts = "SELECT text FROM app.consent_texts WHERE purpose = :p"
    assert consents.admin.run(texts, p=purpose) != [["Evil"]]
    assert len(consents.admin.run(texts, p=purpose)) == 1
