"""A context token is good for one backend, one role, five seconds; a seal for one transaction; altered ones never."""

import time

import pg8000.native
import pytest

from tests.tenancy.conftest import Attacker


def refused(attacker: Attacker, token: str) -> str:
    """The SQLSTATE with which a token is refused; the transaction stays unsealed."""
    attacker.connection.run("BEGIN")
    try:
        with pytest.raises(pg8000.native.DatabaseError) as error:
            attacker.authorize(token)
        return str(error.value.args[0]["C"])
    finally:
        attacker.connection.run("ROLLBACK")


def tenant(attacker: Attacker):
    return attacker.connection.run("SELECT app.tenant_id()")[0][0]


def test_a_good_token_seals_this_transaction_only(projects_attacker, mallory):
    projects_attacker.begin_sealed(mallory)
    assert str(tenant(projects_attacker)) == mallory.tenant_id
    seal = projects_attacker.connection.run("SELECT current_setting('app.context')")[0][0]
    projects_attacker.connection.run("COMMIT")

    assert tenant(projects_attacker) is None
    projects_attacker.connection.run("BEGIN")
    projects_attacker.connection.run("SELECT set_config('app.context', :seal, true)", seal=seal)
    assert tenant(projects_attacker) is None
    projects_attacker.connection.run("ROLLBACK")
    projects_attacker.connection.run("SELECT set_config('app.context', :seal, false)", seal=seal)
    assert tenant(projects_attacker) is None


def test_a_seal_of_another_connection(stack, projects_attacker, mallory):
    projects_attacker.begin_sealed(mallory)
    seal = projects_attacker.connection.run("SELECT current_setting('app.context')")[0][0]
    other = Attacker(stack, "projects_fn")
    other.connection.run("BEGIN")
    other.connection.run("SELECT set_config('app.context', :seal, true)", seal=seal)
    assert tenant(other) is None
    other.connection.close()


def test_an_altered_byte_anywhere(projects_attacker, mallory):
    token = projects_attacker.token(mallory)
    projects_attacker.connection.run("BEGIN")
    projects_attacker.authorize(token)
    projects_attacker.connection.run("ROLLBACK")
    for position in range(len(token)):
        other = "1" if token[position] != "1" else "2"
        altered = token[:position] + other + token[position + 1 :]
        assert refused(projects_attacker, altered).startswith(("CX4", "22"))
    for odd in ("", ".", token + ".", token[:-1], token.upper(), token + "0", token.replace(".", "..")):
        assert refused(projects_attacker, odd) == "CX400"


def test_an_altered_byte_of_a_seal(projects_attacker, mallory):
    projects_attacker.begin_sealed(mallory)
    seal = projects_attacker.connection.run("SELECT current_setting('app.context')")[0][0]
    for position in range(len(seal)):
        other = "1" if seal[position] != "1" else "2"
        altered = seal[:position] + other + seal[position + 1 :]
        projects_attacker.connection.run("SELECT set_config('app.context', :seal, true)", seal=altered)
        assert tenant(projects_attacker) is None, position
    projects_attacker.connection.run("SELECT set_config('app.context', :seal, true)", seal=seal)
    assert str(tenant(projects_attacker)) == mallory.tenant_id


def test_another_backend(stack, projects_attacker, mallory):
    other = Attacker(stack, "projects_fn")
    assert refused(projects_attacker, other.token(mallory)) == "CX400"
    other.connection.close()


def test_another_role(stack, projects_attacker, mallory):
    foreign = Attacker(stack, "audit_fn")
    assert refused(projects_attacker, projects_attacker.token(mallory, role="audit_fn")) == "CX400"
    assert refused(foreign, foreign.token(mallory, role="projects_fn")) == "CX400"
    foreign.connection.close()


def test_expired_or_too_far_ahead(projects_attacker, mallory):
    assert refused(projects_attacker, projects_attacker.token(mallory, expiry=int(time.time()) - 1)) == "CX400"
    assert refused(projects_attacker, projects_attacker.token(mallory, expiry=int(time.time()) + 60)) == "CX400"


def test_a_kind_that_the_role_may_not_claim(projects_attacker, mallory, job):
    token = projects_attacker.token(kind="s", tenant=mallory.tenant_id, principal=job, session="")
    assert refused(projects_attacker, token) == "CX400"


def test_a_job_role_is_nobody_without_its_running_job(stack, admin, mallory, victim, job):
    jobs = Attacker(stack, "exports_jobs_fn")
    foreign = jobs.token(kind="s", tenant=victim.tenant_id, principal=job, session="")
    assert refused(jobs, foreign) == "CX401"
    admin.run("UPDATE platform.jobs SET status = 'done' WHERE id = :id", id=job)
    ended = jobs.token(kind="s", tenant=mallory.tenant_id, principal=job, session="")
    assert refused(jobs, ended) == "CX401"
    jobs.connection.close()


def test_the_credential_is_proven_again_each_time(projects_attacker, admin, people, mallory, victim):
    assert refused(projects_attacker, projects_attacker.token(mallory, tenant=victim.tenant_id)) == "CX401"
    assert refused(projects_attacker, projects_attacker.token(mallory, session="")) == "CX401"
    assert refused(projects_attacker, projects_attacker.token(mallory, session=victim.session_id)) == "CX401"
    assert refused(projects_attacker, projects_attacker.token(mallory, principal=victim.user_id)) == "CX401"
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE id = :id", id=mallory.session_id)
    assert refused(projects_attacker, projects_attacker.token(mallory)) == "CX401"


def test_only_auth_may_act_for_people_without_a_login_session(stack, mallory):
    auth = Attacker(stack, "auth_fn")
    auth.connection.run("BEGIN")
    auth.authorize(auth.token(mallory, session=""))
    assert str(tenant(auth)) == mallory.tenant_id
    auth.connection.close()


def test_suspension_counts_at_once(projects_attacker, admin, mallory):
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=mallory.tenant_id)
    assert refused(projects_attacker, projects_attacker.token(mallory)) == "CX403"
