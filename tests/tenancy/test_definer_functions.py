"""What the database does on a function's behalf is bound to the seal: nobody reaches another person or job with it."""

import hashlib
import uuid

import pg8000.native
import pytest

from tests.conftest import People, Person
from tests.tenancy.conftest import Attacker, Victim


@pytest.fixture
def auth(stack):
    attacker = Attacker(stack, "auth_fn")
    yield attacker
    attacker.connection.close()


@pytest.fixture
def attackers(stack):
    """Attackers by role, closed at the end."""
    made: dict[str, Attacker] = {}

    def of(role: str) -> Attacker:
        made.setdefault(role, Attacker(stack, role))
        return made[role]

    yield of
    for attacker in made.values():
        attacker.connection.close()


@pytest.fixture
def registration(admin: pg8000.native.Connection) -> dict[str, str]:
    """Somebody's registration that waits for its mail."""
    found = {"id": str(uuid.uuid4()), "email": f"new-{uuid.uuid4().hex}@example.org"}
    admin.run(
        "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, browser_hash,"
        " token_hash, expires_at) VALUES (:id, :email, 'N', 'O', 'x', 'x', :hash, now() + interval '1 day')",
        hash=hashlib.sha256(found["id"].encode()).digest(),
        **found,
    )
    return found


@pytest.mark.parametrize("start", ["sealed", "unsealed"])
def test_the_look_ups_before_log_in_are_over_after_it(start, auth, admin, mallory, victim: Victim, registration):
    hashed = f"hash-{uuid.uuid4().hex}"
    refresh = uuid.uuid4().hex
    admin.run("UPDATE identity.accounts SET password_hash = :h WHERE id = :id", h=hashed, id=victim.user_id)
    admin.run(
        "INSERT INTO identity.refresh_tokens (token_hash, account_id, login_session_id, generation, expires_at)"
        " VALUES (:hash, :u, :s, 0, now() + interval '1 day')",
        hash=hashlib.sha256(refresh.encode()).digest(),
        u=victim.user_id,
        s=victim.session_id,
    )
    auth.begin_sealed(mallory)
    if start == "unsealed":
        auth.connection.run("COMMIT")
        auth.connection.run("BEGIN")

    seen = auth.try_all(
        [
            f"SELECT * FROM identity.account_by_email('{victim.email}')",
            f"SELECT identity.pending_registration('{registration['email']}')",
            f"SELECT * FROM identity.lock_refresh_family(sha256('{refresh}'))",
            "SELECT * FROM identity.activate_registration("
            f"sha256('{registration['id']}'), NULL, true, NULL, NULL, NULL)",
        ]
    )

    for secret in (victim.user_id, victim.tenant_id, hashed, registration["id"], "activated"):
        assert secret not in seen
    waiting = "SELECT count(*) FROM identity.registrations WHERE id = :id"
    assert admin.run(waiting, id=registration["id"]) == [[1]]


def test_no_registration_for_somebody_else_out_of_a_log_in(auth, admin, mallory):
    email = f"boss-{uuid.uuid4().hex}@example.org"
    auth.begin_sealed(mallory)

    auth.try_all(
        [
            "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash,"
            f" browser_hash, token_hash, expires_at) VALUES (gen_random_uuid(), '{email}', 'N', 'O', 'x', 'x',"
            " uuid_send(gen_random_uuid()), now() + interval '1 day')",
            "COMMIT",
        ]
    )

    assert admin.run("SELECT count(*) FROM identity.registrations WHERE email = :email", email=email) == [[0]]


def test_nobody_links_an_identity_to_an_account_by_its_address(auth, admin, victim: Victim):
    """Injected SQL before a log-in may name any address: linking it takes the seal of its person."""
    auth.connection.run("BEGIN")
    auth.authorize(auth.token())

    subject = uuid.uuid4().hex
    auth.try_all(
        [
            f"SELECT * FROM identity.federated_log_in('https://id.example', '{subject}', '{victim.email}', 'N', 'O')",
            "INSERT INTO identity.federated_identities (account_id, issuer, subject)"
            f" VALUES ('{victim.user_id}', 'https://id.example', '{subject}')",
            "COMMIT",
        ]
    )

    assert admin.run("SELECT count(*) FROM identity.federated_identities WHERE subject = :s", s=subject) == [[0]]


def test_a_mail_does_not_tell_whose_address_it_goes_to(auth, mallory, victim: Victim, registration):
    auth.begin_sealed(mallory)
    attacks = []
    for reference in (victim.user_id, registration["id"]):
        mail = uuid.uuid4()
        attacks += [
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES ('{mail}', 'mail', 'x', '{reference}', 'x')",
            f"SELECT * FROM platform.mail_claim('{mail}')",
            f"SELECT * FROM platform.mail_recipient('{mail}')",
            f"SELECT email FROM identity.mail_registration('{mail}')",
        ]

    seen = auth.try_all(attacks)

    assert f"[['{victim.email}" not in seen
    assert victim.name not in seen
    assert f"[['{registration['email']}" not in seen


def test_a_person_does_not_change_what_proves_who_she_is(auth, admin, mallory):
    auth.begin_sealed(mallory)

    auth.try_all(
        [
            "UPDATE identity.accounts SET email = 'boss@example.org'",
            "UPDATE identity.accounts SET status = 'frozen'",
            "UPDATE identity.accounts SET email_verified_at = now()",
            "COMMIT",
        ]
    )

    found = admin.run("SELECT email, status FROM identity.accounts WHERE id = :id", id=mallory.user_id)
    assert found == [[mallory.email, "active"]]


MESSAGES = [
    ("exports_fn", "workflow", "gdpr_erasure", "deletion"),
    ("exports_fn", "workflow", "gdpr_export", "export"),
    ("exports_fn", "mail", "verify_email", "account"),
    ("deletions_fn", "workflow", "gdpr_erasure", "deletion"),
    ("deletions_fn", "workflow", "gdpr_export", "export"),
    ("deletions_fn", "mail", "verify_email", "account"),
    ("auth_fn", "workflow", "gdpr_erasure", "deletion"),
    ("auth_fn", "mail", "verify_email", "account"),
]


@pytest.fixture
def jobs(admin: pg8000.native.Connection, victim: Victim) -> dict[str, str]:
    """The victim's export and erasure, both waiting; her account."""
    found = {"export": str(uuid.uuid4()), "deletion": str(uuid.uuid4()), "account": victim.user_id}
    for kind in ("export", "deletion"):
        admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:id, :kind)", id=found[kind], kind=kind)
    admin.run(
        "INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format)"
        " VALUES (:id, :u, :u, :t, 'me', 'json')",
        id=found["export"],
        u=victim.user_id,
        t=victim.tenant_id,
    )
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
        " VALUES (:id, :u, 'me', now(), now(), 'x')",
        id=found["deletion"],
        u=victim.user_id,
    )
    return found


@pytest.mark.parametrize(("role", "kind", "name", "about"), MESSAGES)
def test_nobody_writes_a_message_about_somebody_else(role, kind, name, about, attackers, admin, mallory, jobs):
    attacker = attackers(role)
    attacker.begin_sealed(mallory)

    attacker.try_all(
        [
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES (gen_random_uuid(), '{kind}', '{name}', '{jobs[about]}', 'x')",
            "COMMIT",
        ]
    )

    assert admin.run("SELECT count(*) FROM platform.outbox WHERE reference = :id", id=jobs[about]) == [[0]]


def test_a_message_names_no_other_address_than_a_workflow(admin):
    """The name becomes a part of the URL that the drainer calls with its own rights."""
    for name in ("gdpr_export/executions/x:cancel?", "../../x", "GDPR", ""):
        with pytest.raises(pg8000.native.DatabaseError, match="outbox"):
            admin.run(
                "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
                " VALUES (gen_random_uuid(), 'workflow', :name, gen_random_uuid(), 'x')",
                name=name,
            )


@pytest.mark.parametrize("role", ["exports_jobs_fn", "deletions_jobs_fn"])
@pytest.mark.parametrize("start", ["sealed", "unsealed"])
def test_one_job_does_not_touch_another(role, start, attackers, admin, mallory, job, jobs):
    attacker = attackers(role)
    admin.run("UPDATE platform.jobs SET execution_id = 'hers', status = 'running' WHERE id = :id", id=jobs["deletion"])
    before = admin.run("SELECT * FROM platform.jobs WHERE id IN (:e, :d)", e=jobs["export"], d=jobs["deletion"])
    attacker.begin_sealed(mallory, job)
    if start == "unsealed":
        attacker.connection.run("COMMIT")
        attacker.connection.run("BEGIN")

    attacker.try_all(
        [
            f"SELECT platform.claim_job('{jobs['export']}', 'export', 'evil')",
            f"SELECT platform.claim_export('{jobs['export']}', 'evil')",
            f"SELECT platform.job_alive('{jobs['deletion']}', 'hers')",
            f"SELECT platform.finish_job('{jobs['deletion']}', 'hers', 'failed')",
            f"SELECT platform.fail_export('{jobs['export']}', 'evil', 'x')",
            f"SELECT platform.export_removed('{jobs['export']}')",
            f"SELECT platform.claim_deletion('{jobs['deletion']}', 'evil')",
            f"SELECT platform.end_deletion('{jobs['deletion']}', 'hers', 'failed', 'x')",
            "COMMIT",
        ]
    )

    after = admin.run("SELECT * FROM platform.jobs WHERE id IN (:e, :d)", e=jobs["export"], d=jobs["deletion"])
    assert after == before


def test_a_package_is_an_object_of_its_own_export(attackers, admin, people: People, mallory: Person, job, jobs):
    admin.run("UPDATE platform.jobs SET execution_id = 'mine' WHERE id = :id", id=job)
    admin.run(
        "INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format, status)"
        " VALUES (:id, :u, :u, :t, 'me', 'json', 'running')",
        id=job,
        u=mallory.user_id,
        t=mallory.tenant_id,
    )
    attacker = attackers("exports_jobs_fn")
    attacker.begin_sealed(mallory, job)
    parts = '[{"name": "accounts", "table_name": "identity.accounts"}]'
    foreign = f"exports/{jobs['export']}/packages/x"

    attacker.try_all(
        [
            f"SELECT platform.plan_export('{parts}')",
            f"SELECT platform.finish_part('mine', 'accounts', '{foreign}', 1, 1, 'x')",
            f"SELECT platform.finish_package('mine', '{foreign}', 1, 'x', interval '1 day')",
            "COMMIT",
        ]
    )

    assert admin.run("SELECT count(*) FROM platform.export_parts WHERE object_name = :o", o=foreign) == [[0]]
    assert admin.run("SELECT count(*) FROM platform.exports WHERE object_name = :o", o=foreign) == [[0]]


def test_retention_removes_nothing_before_its_time(attackers, admin, victim: Victim):
    attacker = attackers("retention_fn")
    attacker.connection.run("BEGIN")
    attacker.authorize(attacker.token(kind="s"))

    attacker.try_all(
        [
            f"SELECT platform.retire('identity.{table}', 100000)"
            for table in ("refresh_tokens", "registrations", "login_sessions")
        ]
        + ["COMMIT"]
    )

    assert admin.run("SELECT count(*) FROM identity.login_sessions WHERE id = :id", id=victim.session_id) == [[1]]
