"""POST /v1/auth/login."""

import time
import uuid
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.auth.support import PASSWORD, bearer, claims, events, log_in, new_address, refused, register


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def test_it_works(api, admin, nora):
    answer = log_in(api, nora.email, PASSWORD)

    assert answer.status_code == 200
    tokens = answer.json
    assert set(tokens) == {
        *("status", "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"),
        *("user", "organization", "organizations"),
    }
    assert (tokens["status"], tokens["token_type"], tokens["expires_in"]) == ("authenticated", "Bearer", 3600)
    assert 604_790 <= tokens["refresh_expires_in"] <= 604_800
    assert tokens["user"] == {"id": nora.user_id, "email": nora.email, "display_name": nora.name}
    assert set(tokens["organization"]) == {"id", "slug", "name", "role"}
    assert tokens["organization"]["id"] == nora.tenant_id
    assert api.get("/v1/projects", headers=bearer(tokens)).status_code == 200
    said = claims(tokens["access_token"])
    assert (said["sub"], said["tenant_id"], said["amr"]) == (nora.user_id, nora.tenant_id, ["pwd"])
    event = events(admin, nora.tenant_id)[-1]
    assert (event["action"], event["outcome"], event["resource_id"]) == ("login.succeeded", "success", said["sid"])
    assert event["actor_id"] == nora.user_id


def test_the_address_is_read_in_any_case(api, nora):
    assert log_in(api, f" {nora.email.title()} ", PASSWORD).status_code == 200


def test_wrong_and_unknown_are_told_the_same(api, nora):
    wrong, unknown = log_in(api, nora.email, "wrong password"), log_in(api, new_address(), "wrong password")

    assert refused(wrong, 401, "invalid_credentials")
    assert {**wrong.json, "request_id": ""} == {**unknown.json, "request_id": ""}
    assert wrong.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"]


def test_wrong_and_unknown_take_the_same_time(api, nora):
    def fastest(email):
        durations = []
        for _ in range(5):
            begun = time.monotonic()
            log_in(api, email, "wrong password")
            durations.append(time.monotonic() - begun)
        return min(durations)

    assert fastest(nora.email) >= 0.1
    assert fastest(new_address()) >= 0.1


def test_a_failure_is_recorded_in_each_organization(api, admin, people, nora):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")
    log_in(api, nora.email, "wrong password")

    for tenant_id in (nora.tenant_id, second):
        event = events(admin, tenant_id)[-1]
        assert (event["action"], event["outcome"], event["actor_id"]) == ("login.failed", "failure", nora.user_id)


def test_an_unknown_address_reaches_no_log(api, stack):
    address = new_address()
    log_in(api, address, "wrong password")

    logs = [path.read_text() for path in Path(stack["path"]).parent.joinpath("log").glob("*.log")]
    assert any("log-in failed for an unknown address" in text for text in logs)
    assert not any(address in text for text in logs)


def test_an_unverified_address_is_told_only_after_the_right_password(api):
    newcomer = register(api)

    assert refused(log_in(api, newcomer.email, "wrong password"), 401, "invalid_credentials")
    assert refused(log_in(api, newcomer.email, PASSWORD), 403, "email_not_verified")


def test_a_registration_does_not_open_the_account_of_its_address(api, nora):
    register(api, nora.email, password="the attacker's password")

    assert refused(log_in(api, nora.email, "the attacker's password"), 403, "email_not_verified")
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_who_registers_an_address_does_not_learn_whether_it_is_taken(api, nora):
    addresses, password = (nora.email, new_address()), "the attacker's password"
    for email in addresses:
        register(api, email, password=password)

    for given in (*[password] * 3, *["some other password"] * 2, password):
        taken, free = (log_in(api, email, given) for email in addresses)
        assert taken.status_code == free.status_code
        assert {**taken.json, "request_id": ""} == {**free.json, "request_id": ""}
    assert refused(taken, 429, "account_locked")  # so a registration is no guess that is not counted


def test_an_organization_can_be_chosen(api, admin, people, nora):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")

    tokens = log_in(api, nora.email, PASSWORD, organization_id=second).json
    assert (tokens["organization"]["id"], tokens["organization"]["role"]) == (second, "viewer")
    assert {found["id"] for found in tokens["organizations"]} == {nora.tenant_id, second}
    assert events(admin, second)[-1]["action"] == "login.succeeded"
    assert log_in(api, nora.email, PASSWORD).json["organization"]["id"] == nora.tenant_id


def test_a_foreign_organization_answers_like_none(api, nora, mallory):
    foreign = log_in(api, nora.email, PASSWORD, organization_id=mallory.tenant_id)
    nowhere = log_in(api, nora.email, PASSWORD, organization_id=str(uuid.uuid4()))

    assert refused(foreign, 404, "not_found")
    assert {**foreign.json, "request_id": ""} == {**nowhere.json, "request_id": ""}
    wrong = log_in(api, nora.email, "wrong password", organization_id=mallory.tenant_id)
    assert refused(wrong, 401, "invalid_credentials")


def test_without_any_organization(api, admin, nora):
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=nora.user_id)

    assert refused(log_in(api, nora.email, PASSWORD), 403, "permission_denied")


def test_a_suspended_organization_is_passed_over(api, admin, people, nora):
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=nora.tenant_id)
    assert refused(log_in(api, nora.email, PASSWORD), 403, "organization_suspended")

    second = people.organization()
    people.join(nora.user_id, second, "viewer")
    assert log_in(api, nora.email, PASSWORD).json["organization"]["id"] == second


def test_a_frozen_account_is_one_that_is_not_there(api, admin, nora):
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", u=nora.user_id)

    assert refused(log_in(api, nora.email, PASSWORD), 401, "invalid_credentials")


def test_an_account_without_password(api, people):
    federated = people.create("owner")

    assert refused(log_in(api, federated.email, PASSWORD), 401, "invalid_credentials")


def test_a_hash_grows_with_its_parameters(api, admin, nora):
    old = PasswordHasher(memory_cost=8192, time_cost=1, parallelism=1).hash(PASSWORD)
    admin.run("UPDATE identity.accounts SET password_hash = :h WHERE id = :u", h=old, u=nora.user_id)

    assert log_in(api, nora.email, PASSWORD).status_code == 200
    new = admin.run("SELECT password_hash FROM identity.accounts WHERE id = :u", u=nora.user_id)[0][0]
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_fields_are_checked(api):
    answer = api.post("/v1/auth/login", json={"email": "x", "organization_id": "y", "remember": True})

    assert refused(answer, 422, "invalid_request")
    assert set(answer.json["errors"]) == {"email", "password", "organization_id", "remember"}
