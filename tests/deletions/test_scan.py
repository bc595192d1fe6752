"""The search after an erasure finds what is still there; what the platform itself still holds is a failure."""

import uuid

import pg8000.native
import pytest

from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage, Erasures

LEFT = {
    "her id": "INSERT INTO platform.outbox (id, kind, name, reference, task_name, sent_at, created_at)"
    " VALUES (gen_random_uuid(), 'mail', 'x', :id, 'x', now(), now() - interval '1 hour')",
    "her account": "INSERT INTO identity.accounts (id, email, display_name, created_at) VALUES (gen_random_uuid(),"
    " upper(:email), 'N', now() - interval '1 hour')",
    "her earlier request": "WITH job AS (INSERT INTO platform.jobs (id, kind, status) VALUES (gen_random_uuid(),"
    " 'deletion', 'failed') RETURNING id) INSERT INTO platform.deletions (job_id, subject_id, scope, mail_to,"
    " received_at, execute_after, due_at, finished_at, receipt_hash) SELECT id, CAST(:id AS uuid), 'me', :email,"
    " now() - interval '1 hour', now(), now(), now(), 'x' FROM job",
    "her address": "INSERT INTO platform.outbox (id, kind, name, reference, task_name, sent_at, created_at)"
    " VALUES (gen_random_uuid(), 'mail', 'to ' || upper(:email), gen_random_uuid(), 'x', now(),"
    " now() - interval '1 hour')",
}
BEFORE = ("claim", "plan", "freeze", "revoke", "organizations", "objects", "account")


@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_is_a_failure(
    left: str, alice: Person, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in BEFORE:
        assert backstage.step(job, step, "e").status_code == 200
    values = {"id": alice.user_id, "email": alice.email}
    admin.run(LEFT[left], **{name: value for name, value in values.items() if f":{name}" in LEFT[left]})

    assert backstage.step(job, "scan", "e").status_code == 500

    assert erasures.steps(job)["scan"] == "running"
    assert backstage.step(job, "finish", "e").status_code == 500
    assert erasures.state(job) == "running"


def test_somebody_new_with_her_address_is_not_her(
    api: Api, alice: Person, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in BEFORE:
        backstage.step(job, step, "e")
    admin.run(
        "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, browser_hash,"
        " token_hash, expires_at) VALUES (gen_random_uuid(), :email, 'N', 'O', 'x', 'x',"
        " uuid_send(gen_random_uuid()), now() + interval '1 day')",
        email=alice.email,
    )

    assert backstage.step(job, "scan", "e").status_code == 200


OTHERS = {
    "a name": "UPDATE identity.accounts SET display_name = 'like ' || :email WHERE id = :other",
    "a browser": "UPDATE identity.login_sessions SET user_agent = 'x ' || :email WHERE account_id = :other",
    "an organization to be": "INSERT INTO identity.registrations (id, email, display_name, organization_name,"
    " password_hash, browser_hash, token_hash, created_at, expires_at) VALUES (CAST(:other AS uuid),"
    " CAST(:other AS text) || '@example.org', 'N',"
    " 'of ' || :email, 'x', 'x', uuid_send(gen_random_uuid()), now() - interval '1 hour', now() + interval '1 day')",
    "an address that ends like hers": "INSERT INTO identity.registrations (id, email, display_name, organization_name,"
    " password_hash, browser_hash, token_hash, created_at, expires_at) VALUES (CAST(:other AS uuid), 'x/' || :email,"
    " 'N', 'O', 'x', 'x', uuid_send(gen_random_uuid()), now() - interval '1 hour', now() + interval '1 day')",
    "a request of her own": "INSERT INTO platform.deletions (job_id, subject_id, scope, reason, received_at,"
    " execute_after, due_at, receipt_hash) VALUES (:job, :other, 'me', 'because of ' || :email,"
    " now() - interval '1 hour', now(), now(), 'x')",
}


@pytest.mark.parametrize("typed", OTHERS)
def test_nobody_stops_an_erasure_by_writing_her_address(
    typed: str,
    alice: Person,
    mallory: Person,
    backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:
    values = {"email": alice.email, "other": mallory.user_id}
    if ":job" in OTHERS[typed]:
        values["job"] = str(uuid.uuid4())
        admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:id, 'deletion')", id=values["job"])
    admin.run(OTHERS[typed], **values)
    job = backstage.queued(alice)
    for step in BEFORE:
        assert backstage.step(job, step, "e").status_code == 200

    assert backstage.step(job, "scan", "e").status_code == 200
