"""A context token of kind p: a person's own data while her organization is suspended, and no permission with it."""

import json

import pytest

from tests.tenancy.conftest import KINDS, Attacker
from tests.tenancy.test_tokens_and_seals import refused

ROLES = sorted(role for role, kinds in KINDS.items() if "p" in kinds)


@pytest.fixture
def suspended(admin, mallory):
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=mallory.tenant_id)
    return mallory


@pytest.fixture(params=ROLES)
def own(request, stack):
    attacker = Attacker(stack, request.param, "p")
    yield attacker
    attacker.connection.close()


def test_it_seals_for_the_person_and_grants_nothing(own, suspended):
    assert refused(own, own.token(suspended)) == "CX403"
    own.connection.run("BEGIN")
    granted = json.loads(own.authorize(own.token(suspended, kind="p"))[0][0])
    assert granted == {"role": "owner", "permissions": []}
    seal = str(own.connection.run("SELECT current_setting('app.context')")[0][0]).split(".")
    assert seal[:4] == ["u", suspended.tenant_id, suspended.user_id, suspended.session_id]


def test_nothing_of_it_may_be_left_out(own, suspended, victim):
    for left_out in ("tenant", "principal", "session"):
        assert refused(own, own.token(suspended, kind="p", **{left_out: ""})) == "CX401", left_out
    for wrong in ({"tenant": victim.tenant_id}, {"principal": victim.user_id}, {"session": victim.session_id}):
        assert refused(own, own.token(suspended, kind="p", **wrong)) == "CX401", wrong


def test_its_end(own, admin, suspended):
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE account_id = :u", u=suspended.user_id)
    assert refused(own, own.token(suspended, kind="p")) == "CX401"


def test_no_key_gets_it(own, suspended):
    key_id, hashed = own.key_of(suspended)
    for session in (key_id, hashed):
        assert refused(own, own.token(suspended, kind="p", session=session)) == "CX401"


@pytest.mark.parametrize("role", sorted(set(KINDS) - set(ROLES)))
def test_other_roles_may_not(stack, role, suspended):
    attacker = Attacker(stack, role)
    assert refused(attacker, attacker.token(suspended, kind="p")) == "CX400"
    attacker.connection.close()


def test_nobody_holds_anything_there(stack, admin, suspended):
    """An owner is not let at what the organization has asked for, nor may she ask for more."""
    attacker = Attacker(stack, "exports_fn", "p")
    attacker.begin_sealed(suspended)

    seen = attacker.try_all(
        [
            "SELECT app.sealed_holds('{export.create}')",
            "SELECT platform.request_export(gen_random_uuid(), 'organization', NULL, 'json')",
            f"SELECT platform.request_export(gen_random_uuid(), 'user', '{suspended.user_id}', 'json')",
        ]
    )

    assert "[[True]]" not in seen
    assert seen.count("42501") == 2
    attacker.connection.close()
