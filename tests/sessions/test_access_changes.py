"""The feed of access changes: whatever would make a request be refused stands in it, once, and nothing else does."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pg8000.native
import pytest

from tests.conftest import People, Person, database
from tests.tenancy.conftest import Attacker

VIEW = "session.view"
CALLED = re.compile(r"\b((?:app|identity|platform)\.\w+)\s*\(")
READ = re.compile(r"\b(?:FROM|JOIN)\s+((?:app|identity|platform)\.\w+)")
OF_JOBS = "app.job_credential"  # jobs open no streams


class Watcher:
    """A replica's watcher by its own login: what it is told, look by look."""

    def __init__(self, stack: dict[str, Any]) -> None:
        self._login = Attacker(stack, "sessions_fn", "s")
        self.seen: str | None = None
        self.look()

    def close(self) -> None:
        self._login.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[pg8000.native.Connection]:
        """Sealed for the system, in no organization and for no job."""
        connection = self._login.connection
        connection.run("BEGIN")
        self._login.authorize(self._login.token(kind="s"))
        yield connection
        connection.run("COMMIT")

    def look(self) -> list[list[Any]]:
        """The changes since the last look, in no order: [organization, credential, whether it has ended]."""
        with self.transaction() as connection:
            sql = "SELECT platform.session_watch(:seen, '{}', '{}', '{}')"
            found = connection.run(sql, seen=self.seen)[0][0]
        self.seen = found["seen"]
        changes: list[list[Any]] = found["changes"]
        return changes

    def told(self, person: Person) -> list[list[Any]]:
        """The new changes that concern this person."""
        return [each for each in self.look() if each[0] == person.tenant_id or each[1] == person.session_id]

    def refusal(self, *credential: str | None) -> str | None:
        """Why a credential may not watch; by default None."""
        with self.transaction() as connection:
            asked = json.dumps([list(credential)])
            found = connection.run("SELECT platform.session_access(:asked, :needed)", asked=asked, needed=VIEW)
        return found[0][0][0][0]  # type: ignore[no-any-return]

    def refusal_of(self, person: Person) -> str | None:
        return self.refusal("u", person.tenant_id, person.user_id, person.session_id)


@pytest.fixture
def watcher(stack: dict[str, Any]) -> Iterator[Watcher]:
    made = Watcher(stack)
    yield made
    made.close()


def run(admin: pg8000.native.Connection, sql: str, person: Person, **given: Any) -> None:
    known = {"tenant": person.tenant_id, "person": person.user_id, "login": person.session_id}
    admin.run(sql, **{name: value for name, value in {**known, **given}.items() if f":{name}" in sql})


FROZEN = """
WITH job AS (
    INSERT INTO platform.jobs (id, kind, status) VALUES (gen_random_uuid(), 'deletion', 'done') RETURNING id)
INSERT INTO platform.deletions (job_id, subject_id, scope, tenant_id, received_at, execute_after, due_at, requested_by,
                                receipt_hash, frozen_at)
SELECT id, :person, 'user', :tenant, now(), now(), now() + interval '1 month', :person, '', now() FROM job
"""
GONE = "invalid_token"
REASONS = {
    "logout": ("UPDATE identity.login_sessions SET revoked_at = now() WHERE id = :login", GONE),
    "login expired early": ("UPDATE identity.login_sessions SET expires_at = now() WHERE id = :login", GONE),
    "login deleted": ("DELETE FROM identity.login_sessions WHERE id = :login", GONE),
    "account frozen": ("UPDATE identity.accounts SET status = 'frozen' WHERE id = :person", GONE),
    "account deleted": ("DELETE FROM identity.accounts WHERE id = :person", GONE),
    "removed": ("DELETE FROM app.members WHERE tenant_id = :tenant AND user_id = :person", GONE),
    "frozen here": (FROZEN, GONE),
    "suspended": ("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :tenant",
                  "organization_suspended"),
    "mfa required": ("""UPDATE app.organizations SET settings = '{"require_mfa": true}' WHERE tenant_id = :tenant""",
                     "permission_denied"),
    "another role": ("""WITH made AS (INSERT INTO app.roles (tenant_id, id, name, permissions)
                                      VALUES (:tenant, gen_random_uuid(), 'Builder', '{project.view}') RETURNING id)
                        UPDATE app.members SET role = NULL, role_id = made.id FROM made
                        WHERE tenant_id = :tenant AND user_id = :person""", "permission_denied"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_told_once(reason: str, watcher: Watcher, admin: Any, vera: Person, mallory: Person) -> None:
    sql, code = REASONS[reason]
    assert watcher.refusal_of(vera) is None
    watcher.look()

    run(admin, sql, vera)

    assert watcher.refusal_of(vera) == code
    assert watcher.told(vera)
    assert watcher.told(vera) == []
    assert watcher.refusal_of(mallory) is None
    run(admin, "UPDATE platform.deletions SET finished_at = now() WHERE tenant_id = :tenant", vera)


def test_only_an_ended_log_in_is_told_as_ended(watcher: Watcher, admin: Any, vera: Person, dan: Person) -> None:
    run(admin, REASONS["logout"][0], vera)
    run(admin, REASONS["removed"][0], dan)

    told = watcher.look()

    assert [None, vera.session_id, True] in told
    assert [dan.tenant_id, None, False] in told


def test_a_role_that_loses_the_permission(watcher: Watcher, admin: Any, vera: Person) -> None:
    role = str(uuid.uuid4())
    insert = (
        "INSERT INTO app.roles (tenant_id, id, name, permissions) VALUES (:tenant, :role, 'Guest', '{session.view}')"
    )
    run(admin, insert, vera, role=role)
    run(admin, "UPDATE app.members SET role = NULL, role_id = :role WHERE user_id = :person", vera, role=role)
    assert watcher.refusal_of(vera) is None
    watcher.look()

    run(admin, "UPDATE app.roles SET permissions = '{project.view}' WHERE id = :role", vera, role=role)

    assert watcher.refusal_of(vera) == "permission_denied"
    assert watcher.told(vera) == [[vera.tenant_id, None, False]]


@pytest.mark.parametrize("change", ["DELETE FROM app.api_keys", "UPDATE app.api_keys SET expires_at = now()",
                                    "UPDATE app.api_keys SET permissions = '{}'"])  # fmt: skip
def test_an_api_key_that_ends(change: str, watcher: Watcher, admin: Any, alice: Person) -> None:
    key, hashed = watcher._login.key_of(alice)
    assert watcher.refusal("k", None, None, hashed) is None
    watcher.look()

    run(admin, f"{change} WHERE tenant_id = :tenant AND id = :key", alice, key=key)

    assert watcher.refusal("k", None, None, hashed) in {GONE, "permission_denied"}
    assert watcher.told(alice) == [[alice.tenant_id, None, False]]


def test_a_federated_identity_that_is_unlinked(watcher: Watcher, admin: Any, vera: Person) -> None:
    linked = str(uuid.uuid4())
    insert = (
        "INSERT INTO identity.federated_identities (id, account_id, issuer, subject)"
        " VALUES (:linked, :person, 'https://id.example', CAST(:linked AS uuid)::text)"
    )
    run(admin, insert, vera, linked=linked)
    assert watcher.refusal("u", vera.tenant_id, vera.user_id, linked) is None

    run(admin, "DELETE FROM identity.federated_identities WHERE id = :linked", vera, linked=linked)

    assert watcher.refusal("u", vera.tenant_id, vera.user_id, linked) == GONE
    assert [None, linked, False] in watcher.look()


def test_a_built_in_role_concerns_everybody(watcher: Watcher, admin: Any) -> None:
    """Only a migration changes one; here it is taken back at once."""
    admin.run("BEGIN")
    admin.run("UPDATE platform.roles SET permissions = array_remove(permissions, 'session.view') WHERE name = 'viewer'")
    found = admin.run(
        "SELECT count(*) FROM platform.access_changes WHERE num_nonnulls(tenant_id, credential) = 0"
        " AND changed_in = pg_current_xact_id()"
    )
    admin.run("ROLLBACK")

    assert found == [[1]]


WIDER = {
    "used": "UPDATE identity.login_sessions SET last_used_at = now(), tip = tip + 1,"
            " expires_at = expires_at + interval '1 day' WHERE id = :login",
    "proved": "UPDATE identity.login_sessions SET amr = '{pwd,mfa}', proved_at = now() WHERE id = :login",
    "renamed": "UPDATE app.organizations SET name = 'New', version = version + 1 WHERE tenant_id = :tenant",
    "profile": "UPDATE identity.accounts SET display_name = 'New', version = version + 1 WHERE id = :person",
}  # fmt: skip


@pytest.mark.parametrize("change", WIDER)
def test_what_takes_nothing_away_writes_no_row(change: str, watcher: Watcher, admin: Any, vera: Person) -> None:
    watcher.look()

    run(admin, WIDER[change], vera)

    assert watcher.told(vera) == []


def test_an_open_transaction_hides_nothing_and_repeats_nothing(
    watcher: Watcher, stack: dict[str, Any], admin: Any, people: People, vera: Person
) -> None:
    """The order of commits decides, not that of ids: what begins early and commits late is told late, once."""
    dan = people.create("developer", vera.tenant_id)
    with database(stack["postgres"]["admin"]) as slow:
        slow.run("BEGIN")
        run(slow, REASONS["logout"][0], vera)
        run(admin, REASONS["logout"][0], dan)

        assert watcher.told(dan) == [[None, dan.session_id, True]]
        assert watcher.told(dan) == []
        slow.run("COMMIT")

    assert watcher.told(vera) == [[None, vera.session_id, True]]
    assert watcher.told(vera) == []


def test_a_row_from_a_backup_is_not_told_again_and_again(watcher: Watcher, admin: Any, vera: Person) -> None:
    """Another server's transaction ids may be ahead of this one's."""
    insert = "INSERT INTO platform.access_changes (changed_in, tenant_id) VALUES ('999999999999', :tenant)"
    run(admin, insert, vera)

    assert watcher.told(vera) == []

    run(admin, "DELETE FROM platform.access_changes WHERE tenant_id = :tenant", vera)


def test_only_the_watcher_may_ask(stack: dict[str, Any], alice: Person) -> None:
    """Injected SQL in the transaction of a person, or in none, is refused; so is the login of another service."""
    asked = [
        "SELECT platform.session_watch(NULL, '{}', '{}', '{}')",
        "SELECT platform.session_access('[]', 'session.view')",
        "SELECT platform.close_idle_sessions(1, 'x')",
    ]
    seen = []
    for role, kind in (("sessions_fn", "u"), ("sessions_fn", "k"), ("retention_fn", "s")):
        attacker = Attacker(stack, role, kind)
        if kind == "s":
            attacker.connection.run("BEGIN")
            attacker.authorize(attacker.token(kind="s"))
        else:
            attacker.begin_sealed(alice)
        seen += [attacker.try_all([sql]) for sql in asked]
        attacker.connection.close()

    assert len(seen) == 9
    assert all("42501" in each for each in seen)


def test_every_table_that_decides_has_its_trigger(admin: Any) -> None:
    """What app.credential reads, itself or by the functions that it calls, against the triggers that fill the feed."""
    source = {name: text for name, text in admin.run(
        "SELECT n.nspname || '.' || p.proname, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN ('app', 'identity', 'platform')"
    )}  # fmt: skip
    reached, open_ = set(), ["app.credential"]
    while open_:
        name = open_.pop()
        reached.add(name)
        open_ += [each for each in CALLED.findall(source[name]) if each in source.keys() - reached - {OF_JOBS}]
    read = {table for name in reached for table in READ.findall(source[name])}
    watched = dict(
        admin.run(
            "SELECT t.tgrelid::regclass::text, bit_or(t.tgtype) FROM pg_trigger t"
            " WHERE t.tgfoid = 'platform.note_access_change()'::regprocedure AND t.tgenabled = 'O' GROUP BY 1"
        )
    )
    update, delete, insert = 16, 8, 4

    assert "platform.deletions" in read  # by platform.is_frozen
    assert read == set(watched)
    ends_by = {table: insert if table == "platform.deletions" else delete for table in read}
    assert [table for table in read if watched[table] & (update | ends_by[table]) != update | ends_by[table]] == []
