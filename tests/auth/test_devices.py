"""Known devices: the cookie, and the notice of one that is new."""

import re

import pytest

from tests.auth.support import PASSWORD, device, log_in, sign_up
from tests.conftest import wait_until

SUBJECT = "A new device has logged in"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def first(admin, nora):
    """Nora has not logged in before."""
    admin.run("DELETE FROM identity.login_sessions WHERE account_id = :u", u=nora.user_id)
    return nora


def log_in_with(api, person, cookie):
    return api.post("/v1/auth/login", json={"email": person.email, "password": PASSWORD}, headers=cookie)


def notices(admin, person):
    found = "SELECT count(*) FROM platform.outbox WHERE name = 'notice_new_device' AND reference = :u"
    return admin.run(found, u=person.user_id)[0][0]


def test_the_cookie_is_for_this_host_alone(api, nora):
    cookie = log_in(api, nora.email, PASSWORD).headers["Set-Cookie"]

    assert re.fullmatch(
        r"__Host-device=[\w-]{43}; (Expires=[^;]+; )?Max-Age=31536000; Secure; HttpOnly; Path=/; SameSite=Lax", cookie
    )


def test_a_new_device_is_told(api, inbox, first):
    log_in(api, first.email, PASSWORD)
    log_in(api, first.email, PASSWORD)

    mail = inbox.wait_for(first.email, SUBJECT)
    assert "from the network address 127.0.0.1" in mail["text"]
    assert [m["subject"] for m in inbox.messages(first.email)] == [SUBJECT]


def test_the_first_one_and_a_known_one_are_not(api, admin, first):
    cookie = device(log_in(api, first.email, PASSWORD))
    again = log_in_with(api, first, cookie)

    assert device(again) == cookie
    assert notices(admin, first) == 0
    log_in(api, first.email, PASSWORD)
    assert notices(admin, first) == 1


def test_a_registration_makes_its_browser_known(api, inbox, admin):
    newcomer, tokens = sign_up(api, inbox)

    assert admin.run("SELECT count(*) FROM identity.devices WHERE account_id = :u", u=tokens["user"]["id"]) == [[1]]
    log_in(api, newcomer.email, newcomer.password)
    wait_until(lambda: inbox.messages(newcomer.email)[0]["subject"] == SUBJECT, what="the notice")


def test_only_a_hash_is_kept(api, admin, nora):
    value = device(log_in(api, nora.email, PASSWORD))["Cookie"].partition("=")[2]

    rows = admin.run("SELECT encode(token_hash, 'escape') FROM identity.devices WHERE account_id = :u", u=nora.user_id)
    assert len(rows) == 1
    assert value not in rows[0][0]


def test_an_expired_one_is_new(api, admin, nora):
    cookie = device(log_in(api, nora.email, PASSWORD))
    admin.run("UPDATE identity.devices SET expires_at = now() WHERE account_id = :u", u=nora.user_id)

    assert device(log_in_with(api, nora, cookie)) != cookie


def test_a_switch_is_no_log_in(api, admin, people, nora):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")
    answer = api.post("/v1/auth/switch", json={"organization_id": second}, headers=nora)

    assert answer.status_code == 200
    assert "__Host-device" not in answer.headers.get("Set-Cookie", "")
    assert admin.run("SELECT count(*) FROM identity.devices WHERE account_id = :u", u=nora.user_id) == [[0]]


def test_fifty_are_remembered(api, admin, nora):
    admin.run(
        "INSERT INTO identity.devices (account_id, token_hash, last_used_at, expires_at)"
        " SELECT CAST(:u AS uuid), uuid_send(gen_random_uuid()), now() - make_interval(days => n),"
        " now() + interval '1 day' FROM generate_series(1, 60) AS n",
        u=nora.user_id,
    )
    log_in(api, nora.email, PASSWORD)

    found = (
        "SELECT count(*), max(now() - last_used_at) < interval '50 days' FROM identity.devices WHERE account_id = :u"
    )
    assert admin.run(found, u=nora.user_id) == [[50, True]]
