"""The search after an erasure finds what is still there; what the platform itself still holds is a failure."""

import pg8000.native
import pytest

from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage, Erasures

LEFT = {
    "her id": "INSERT INTO platform.outbox (id, kind, name, reference, task_name, sent_at, created_at)"
    " VALUES (gen_random_uuid(), 'mail', 'x', :id, 'x', now(), now() - interval '1 hour')",
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
    admin.run(LEFT[left], **({"id": alice.user_id} if "id" in left else {"email": alice.email}))

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
