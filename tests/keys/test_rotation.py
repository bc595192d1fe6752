"""POST /internal/keys/rotate: keys come and go while everything that they have signed goes on working."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from common import certificate
from common.audit import statement_of
from common.secrets import _key
from functions.keys import policies
from local.secrets_store import DESTROYED, DISABLED, ENABLED
from tests.auth.support import PASSWORD, bearer, log_in, mailed_token, refresh, refused, register
from tests.conftest import Api, wait_until
from tests.keys.conftest import DAY, SETTLE

JWT, VERIFY = "jwt-keyring", "jwt-verify-keyring"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def fresh_log_in(api, nora, kid):
    """A log-in whose access token is signed by this key: the service has read its ring again."""

    def signed():
        answer = log_in(api, nora.email, PASSWORD).json
        return answer if kid_of(answer["access_token"]) == kid else None

    return wait_until(signed, 10, "a token by the new key")


def test_a_run_without_need_changes_nothing(safe):
    first = safe.call()
    assert first.status_code == 200, first.text
    before = {id: safe.store.versions(id) for id in policies.secret_ids()}

    assert safe.call().json == {"done": {}}
    assert {id: safe.store.versions(id) for id in policies.secret_ids()} == before


@pytest.mark.parametrize("account", ["auth", "gateway", "tasks", "workflows", "keys"])
def test_it_is_the_schedulers(safe, account):
    assert safe.call(account).status_code == 403


def test_access_tokens(safe, api, nora):
    old = log_in(api, nora.email, PASSWORD).json
    new_kid = safe.begin(JWT)
    assert new_kid in safe.ring(VERIFY)["keys"]
    assert kid_of(log_in(api, nora.email, PASSWORD).json["access_token"]) == kid_of(old["access_token"])

    safe.promote(JWT)
    new = fresh_log_in(api, nora, new_kid)
    for each in (old, new):
        assert api.get("/v1/auth/me", headers=bearer(each)).status_code == 200
        assert api.get("/v1/projects", headers=bearer(each)).status_code == 200

    assert "retired" in safe.end(JWT, 3600)
    assert set(safe.ring(JWT)["keys"]) == set(safe.ring(VERIFY)["keys"]) == {new_kid}
    wait_until(lambda: api.get("/v1/projects", headers=bearer(old)).status_code == 401, 10, "the end of the old key")
    assert refused(api.get("/v1/projects", headers=bearer(old)), 401, "invalid_token")
    assert api.get("/v1/projects", headers=bearer(new)).status_code == 200


def test_an_old_key_stays_for_as_long_as_its_tokens(safe):
    safe.turn(JWT)
    safe.later(JWT, 3600)
    assert safe.rotate(JWT) == []
    assert len(safe.ring(JWT)["keys"]) == 2


def test_versions_of_retired_keys_are_disabled_and_then_destroyed(safe):
    safe.turn("cursor-key")
    numbers = [each.version for each in safe.versions("cursor-key")]
    assert {each.state for each in safe.versions("cursor-key")[-3:]} == {ENABLED}
    safe.end("cursor-key", policies.CURSOR_SECONDS)

    states = {each.version: each.state for each in safe.versions("cursor-key")}
    assert {states[number] for number in numbers} == {DISABLED}
    assert states[max(states)] == ENABLED

    month = "UPDATE versions SET created = created - 2592001 WHERE id = 'cursor-key'"
    safe.store.connection.execute(month)
    safe.call()
    states = {each.version: each.state for each in safe.versions("cursor-key")}
    assert {states[number] for number in numbers} == {DESTROYED}
    assert states[max(states)] == ENABLED


def test_refresh_tokens(safe, api, nora):
    """The family goes on, and a lost answer is repeated across the promotion: each step knows its key."""
    first = log_in(api, nora.email, PASSWORD).json["refresh_token"]
    safe.begin("refresh-key")
    second = refresh(api, first).json["refresh_token"]
    safe.promote("refresh-key")
    time.sleep(1.2)  # the service's own reading is younger than that
    assert refresh(api, first).json["refresh_token"] == second
    third = refresh(api, second).json["refresh_token"]
    assert refresh(api, first).json["refresh_token"] == third
    assert "retired" in safe.end("refresh-key", 30 * DAY)
    time.sleep(1.2)
    assert refresh(api, third).status_code == 200


def test_a_mail_that_is_sent_after_the_promotion(safe, api, admin, inbox):
    """The link was promised under the old key: its hash is what the database knows."""
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)
    safe.turn("mail-key")
    time.sleep(1.2)
    (mail,) = admin.run(
        "UPDATE platform.outbox SET sent_at = NULL, delivered_at = NULL, claimed_until = NULL, leased_until = NULL,"
        " task_name = replace(gen_random_uuid()::text, '-', ''), created_at = now() - interval '1 minute'"
        " WHERE reference = (SELECT id FROM identity.registrations WHERE email = :email) RETURNING id",
        email=newcomer.email,
    )[0]
    assert safe.call(path="/internal/outbox/drain", service="retention").status_code == 200
    wait_until(
        lambda: admin.run("SELECT delivered_at IS NOT NULL FROM platform.outbox WHERE id = :id", id=mail) == [[True]],
        30,
        "the second delivery",
    )
    texts = [m for m in inbox.messages(newcomer.email) if token in str(m)]
    assert texts
    answer = api.post("/v1/auth/email/verify", json={"token": token}, headers=newcomer.cookie)
    assert answer.status_code == 200


def test_cursors(safe, api, alice):
    for name in "abc":
        api.post("/v1/projects", json={"name": name}, headers=alice)
    first = api.get("/v1/projects?limit=1", headers=alice).json["next_cursor"]
    safe.turn("cursor-key")
    time.sleep(1.2)
    answer = api.get(f"/v1/projects?limit=1&cursor={first}", headers=alice)
    assert (answer.status_code, answer.json["items"][0]["name"]) == (200, "b")

    assert "retired" in safe.end("cursor-key", policies.CURSOR_SECONDS)
    wait_until(
        lambda: api.get(f"/v1/projects?cursor={first}", headers=alice).status_code == 400, 10, "the cursor's end"
    )
    answer = api.get(f"/v1/projects?limit=1&cursor={answer.json['next_cursor']}", headers=alice)
    assert (answer.status_code, answer.json["items"][0]["name"]) == (200, "a")


def test_certificates_hold_for_ever(safe, api):
    old = safe.ring("certificate-key")
    (kid,) = old["keys"]
    facts = {"deletion_id": "x"}
    statement = statement_of(facts)
    signature = certificate._text(certificate._private(_key(kid, old["keys"][kid])).sign(statement))
    issued = {**facts, "hash": certificate.hashlib.sha256(statement).hexdigest(), "signature": signature, "key_id": kid}
    safe.turn("certificate-key")
    assert "shrunk" in safe.end("certificate-key", 0)
    assert set(safe.ring("certificate-key")["keys"][kid]) & {"key", "private_pem"} == set()

    def published():
        keys = api.get("/v1/deletions/certificate-keys").json["keys"]
        keys = keys if isinstance(keys, dict) else {each["key_id"]: each["public_key"] for each in keys}
        return keys if len(keys) == 2 else None

    assert certificate.holds(issued, wait_until(published, 10, "both keys")[kid])


def test_context_keys_while_requests_run(safe, stack, alice, admin):
    """Every request of these seconds works, and at the end the old key is forgotten everywhere."""
    secret = "context-key-projects_fn"
    safe.call()
    old = safe.ring(secret)["active"]
    over, failures, good = threading.Event(), [], [0]

    def ask():
        client = Api(stack["api"])
        while not over.is_set():
            answer = client.get("/v1/projects", headers=alice)
            good[0] += 1
            if answer.status_code != 200:
                failures.append(answer.text)
        client._session.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        new = safe.turn(secret)
        wait_until(lambda: "retired" in safe.rotate(secret), 20, "the retirement")
        time.sleep(1.5)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert good[0] > 50
    assert set(safe.ring(secret)["keys"]) == {new}
    rows = admin.run("SELECT kid FROM platform.context_keys WHERE kid IN (:old, :new)", old=old, new=new)
    assert rows == [[new]]
    kinds = "SELECT kinds, signs_in FROM platform.context_keys WHERE kid = :new"
    assert admin.run(kinds, new=new) == [[["u", "k"], False]]


def test_the_rotating_service_rotates_its_own_key(safe):
    new = safe.turn("context-key-keys_fn")
    wait_until(lambda: "retired" in safe.rotate("context-key-keys_fn"), 20, "the retirement")
    assert list(safe.ring("context-key-keys_fn")["keys"]) == [new]
    assert safe.call().status_code == 200


def test_two_runs_at_once(safe):
    safe.call()
    before = safe.ring("mfa-key")
    safe.later("mfa-key", 90 * DAY)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: safe.call().status_code, range(4)))
    assert 200 in answers
    assert set(answers) <= {200, 503}
    assert len(safe.ring("mfa-key")["keys"]) == len(before["keys"]) + 1


def test_a_run_that_died_holds_up_the_next_ones_for_a_while(safe, admin):
    admin.run("INSERT INTO platform.key_run (run, ends_at) VALUES (gen_random_uuid(), now() + interval '1 minute')")
    answer = safe.call()
    assert refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "60"
    admin.run("UPDATE platform.key_run SET ends_at = now()")
    assert safe.call().status_code == 200
    assert admin.run("SELECT count(*) FROM platform.key_run") == [[0]]


def test_a_crash_after_the_database_and_before_the_ring(safe, admin):
    """The database knows a key that no ring has: the next run forgets it."""
    safe.call()
    kid = safe.ring("context-key-audit_fn")["active"]
    admin.run(
        "INSERT INTO platform.context_keys SELECT 'orphan00', login_role, kinds, signs_in, inner_pad, outer_pad"
        " FROM platform.context_keys WHERE kid = :kid",
        kid=kid,
    )
    assert "forgot" in safe.rotate("context-key-audit_fn")
    assert admin.run("SELECT count(*) FROM platform.context_keys WHERE kid = 'orphan00'") == [[0]]
    assert admin.run("SELECT count(*) FROM platform.context_keys WHERE kid = :kid", kid=kid) == [[1]]


def test_a_database_that_lost_a_key_gets_it_before_it_signs(safe, api, alice, admin):
    """A restored backup may be older than the ring."""
    secret = "context-key-audit_fn"
    kid = safe.begin(secret)
    admin.run("DELETE FROM platform.context_keys WHERE kid = :kid", kid=kid)
    safe.promote(secret)
    assert admin.run("SELECT count(*) FROM platform.context_keys WHERE kid = :kid", kid=kid) == [[1]]
    time.sleep(1.2)
    assert api.get("/v1/audit-events", headers=alice).status_code == 200


def test_a_crash_between_the_two_rings_of_access_tokens(safe):
    """The key waits anew from the moment at which everybody can read it."""
    kid = safe.begin(JWT)
    shown = safe.ring(VERIFY)
    del shown["keys"][kid]
    safe.put(VERIFY, shown)
    safe.later(JWT, 10 * SETTLE)

    assert "promoted" not in safe.rotate(JWT)
    assert kid in safe.ring(VERIFY)["keys"]
    safe.promote(JWT)
    assert safe.ring(JWT)["active"] == kid


def test_one_broken_secret_does_not_stop_the_others(safe):
    good = safe.store.latest("cursor-key") or b""
    safe.call()
    before = safe.ring("refresh-key")
    safe.later("refresh-key", 90 * DAY)
    safe.put("cursor-key", {"no": "ring"})
    try:
        assert safe.call().status_code == 503
    finally:
        safe.store.add("cursor-key", good)
    assert len(safe.ring("refresh-key")["keys"]) == len(before["keys"]) + 1
    safe.promote("refresh-key")


def test_no_key_is_told(safe):
    """Neither the answer nor the log of a run holds a key."""
    safe.turn("mfa-key")
    text = safe.layout.path("log", "keys.log").read_text() + safe.call().text
    for id in policies.secret_ids():
        if id in policies.not_rotated():
            continue
        for each in safe.ring(id)["keys"].values():
            assert each.get("key", "none at all") not in text
    assert re.search(r'"secret":"mfa-key","steps":\["promoted', text)
