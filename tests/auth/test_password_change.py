"""POST /v1/auth/password/change."""

import pytest

from tests.auth.support import PASSWORD, bearer, device, events, log_in, refused

NEW = "a harbour full of herons"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def change(api, headers, current=PASSWORD, new=NEW):
    return api.post(
        "/v1/auth/password/change", json={"current_password": current, "new_password": new}, headers=headers
    )


def test_it_works(api, admin, inbox, nora):
    assert change(api, nora).status_code == 204

    assert log_in(api, nora.email, NEW).status_code == 200
    assert refused(log_in(api, nora.email, PASSWORD), 401, "invalid_credentials")
    changed = [e for e in events(admin, nora.tenant_id) if e["action"] == "user.password_changed"]
    assert [(e["actor_id"], e["data"]) for e in changed] == [(nora.user_id, {"method": "password"})]
    assert inbox.wait_for(nora.email, "Your password was changed")


def test_it_is_told_in_each_organization(api, admin, people, nora):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")

    assert change(api, nora).status_code == 204
    for tenant_id in (nora.tenant_id, second):
        assert "user.password_changed" in [e["action"] for e in events(admin, tenant_id)]


def test_other_log_ins_end_and_this_one_stays(api, people, nora):
    other = people.log_in(nora)

    assert change(api, nora).status_code == 204
    assert api.get("/v1/auth/me", headers=nora).status_code == 200
    assert refused(api.get("/v1/auth/me", headers=other), 401, "invalid_token")


def test_other_devices_are_unknown_then(api, admin, nora):
    ours, theirs = device(log_in(api, nora.email, PASSWORD)), device(log_in(api, nora.email, PASSWORD))
    assert change(api, {**nora, **ours}).status_code == 204

    for _ in range(5):
        log_in(api, nora.email, "not the right password")
    body = {"email": nora.email, "password": NEW}
    assert refused(api.post("/v1/auth/login", json=body, headers=theirs), 429, "account_locked")
    assert api.post("/v1/auth/login", json=body, headers=ours).status_code == 200


def test_a_wrong_password_changes_nothing(api, admin, people, nora):
    other = people.log_in(nora)

    assert refused(change(api, nora, "not the right password"), 401, "invalid_credentials")
    assert api.get("/v1/auth/me", headers=other).status_code == 200
    assert log_in(api, nora.email, PASSWORD).status_code == 200
    event = events(admin, nora.tenant_id)[0]
    assert (event["action"], event["outcome"]) == ("user.password_change_failed", "failure")


def test_it_counts_in_the_lock(api, nora):
    for _ in range(5):
        assert refused(change(api, nora, "not the right password"), 401, "invalid_credentials")

    assert refused(change(api, nora), 429, "account_locked")
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_it_needs_a_fresh_proof(api, people, nora):
    old = people.log_in(nora, age_seconds=301)

    assert refused(change(api, old), 403, "step_up_required")
    assert api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=old).status_code == 200


@pytest.mark.parametrize("new", ["short", "password1234", "{email}", "Owner {id}!!", "Organization {tenant}"])
def test_a_weak_password(api, nora, new):
    weak = new.format(email=nora.email, id=nora.user_id[:8], tenant=nora.tenant_id[:8])

    assert refused(change(api, nora, new=weak), 422, "weak_password")
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_who_has_no_password_has_none_to_show(api, people):
    federated = people.create("owner")

    assert refused(change(api, federated), 401, "invalid_credentials")


def test_without_a_log_in(api, nora):
    assert refused(change(api, {}), 401, "invalid_token")


def test_what_it_was_given_is_kept_nowhere(api, admin, nora):
    tokens = log_in(api, nora.email, PASSWORD).json

    assert change(api, {**bearer(tokens), "Idempotency-Key": "one"}).status_code == 204
    assert refused(change(api, {**bearer(tokens), "Idempotency-Key": "one"}), 401, "invalid_credentials")
