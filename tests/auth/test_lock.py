"""The lock against guessing: what it stops, whom it never stops, and that it tells nobody who has an account."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import valkey

from tests.auth.support import PASSWORD, bearer, device, log_in, new_address, refused
from tests.tenancy.conftest import Attacker

WRONG = "not the right password"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def from_elsewhere(admin):
    """Make earlier log-ins come from another address than the test's."""

    def move(person):
        admin.run("UPDATE identity.login_sessions SET ip = '192.0.2.77' WHERE account_id = :u", u=person.user_id)

    return move


def fail(api, email, times=5, **more):
    return [log_in(api, email, WRONG, **more).status_code for _ in range(times)]


def log_in_with(api, person, headers, password=PASSWORD):
    return api.post("/v1/auth/login", json={"email": person.email, "password": password}, headers=headers)


def locks(admin, email):
    """place → (failures, locks) of an account's address."""
    rows = admin.run(
        "SELECT l.place, cardinality(l.failed_at), l.locks FROM identity.login_locks l"
        " JOIN identity.accounts a ON a.id = l.account_id WHERE a.email = :e",
        e=email,
    )
    return {place: (failures, locked) for place, failures, locked in rows}


def time_passes(admin, person, seconds):
    """Move a person's failures and locks into the past."""
    admin.run(
        "UPDATE identity.login_locks SET locked_until = locked_until - make_interval(secs => :s),"
        " failed_at = ARRAY(SELECT t - make_interval(secs => :s) FROM unnest(failed_at) AS t) WHERE account_id = :u",
        s=seconds,
        u=person.user_id,
    )


def test_five_failures_lock(api, nora):
    assert fail(api, nora.email) == [401] * 5

    locked = log_in(api, nora.email, PASSWORD)
    assert refused(locked, 429, "account_locked")
    assert 1 <= int(locked.headers["Retry-After"]) <= 60


def test_the_right_password_within_the_lock_is_not_told(api, nora):
    fail(api, nora.email)

    right, wrong = log_in(api, nora.email, PASSWORD), log_in(api, nora.email, WRONG)
    assert {**right.json, "request_id": ""} == {**wrong.json, "request_id": ""}


def test_an_unknown_address_is_locked_the_same(api, nora):
    stranger = new_address()
    answers = [[log_in(api, email, WRONG) for _ in range(6)] for email in (nora.email, stranger)]

    for known, unknown in zip(*answers, strict=True):
        assert known.status_code == unknown.status_code
        assert {**known.json, "request_id": ""} == {**unknown.json, "request_id": ""}
        assert ("Retry-After" in known.headers) == ("Retry-After" in unknown.headers)
    assert answers[1][-1].status_code == 429


def test_a_log_in_forgets_the_failures(api, nora):
    for _ in range(3):
        assert fail(api, nora.email, 4) == [401] * 4
        assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_failures_of_long_ago_do_not_count(api, admin, nora):
    fail(api, nora.email, 4)
    time_passes(admin, nora, 16 * 60)

    assert fail(api, nora.email, 4) == [401] * 4
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_the_delay_grows_to_a_quarter_of_an_hour_and_no_further(api, admin, nora):
    fail(api, nora.email)
    delays = []
    for _ in range(7):
        delays.append(int(log_in(api, nora.email, WRONG).headers["Retry-After"]))
        time_passes(admin, nora, delays[-1])
        assert fail(api, nora.email, 1) == [401]

    expected = [60, 120, 240, 480, 900, 900, 900]
    assert all(limit - 5 <= delay <= limit for delay, limit in zip(delays, expected, strict=True)), delays


def test_after_the_delay_the_right_password_opens(api, admin, nora):
    fail(api, nora.email)
    time_passes(admin, nora, 61)

    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_an_escalation_is_forgotten_after_an_hour(api, admin, nora):
    fail(api, nora.email)
    time_passes(admin, nora, 2 * 3600)

    assert fail(api, nora.email, 4) == [401] * 4
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_a_known_device_is_not_locked_by_others(api, nora):
    cookie = device(log_in(api, nora.email, PASSWORD))
    fail(api, nora.email)

    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")
    assert log_in_with(api, nora, cookie).status_code == 200


def test_a_known_device_has_a_counter_of_its_own(api, nora):
    cookie = device(log_in(api, nora.email, PASSWORD))

    assert [log_in_with(api, nora, cookie, WRONG).status_code for _ in range(6)] == [401] * 5 + [429]
    assert refused(log_in_with(api, nora, cookie), 429, "account_locked")
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_a_device_is_known_for_its_own_account_only(api, people, nora):
    mallory = people.create("owner", password=PASSWORD)
    cookie = device(log_in(api, mallory.email, PASSWORD))

    assert [log_in_with(api, nora, cookie, WRONG).status_code for _ in range(6)] == [401] * 5 + [429]
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_an_invented_device_is_not_known(api, nora):
    cookies = [{"Cookie": f"__Host-device={n}{'x' * 42}"} for n in range(6)]

    assert [log_in_with(api, nora, cookie, WRONG).status_code for cookie in cookies] == [401] * 5 + [429]


def guess_from(stack, email, addresses):
    """Wrong tries from these addresses, as the service itself counts them; what it would be told."""
    auth, told = Attacker(stack, "auth_fn"), []
    try:
        for address in addresses:
            auth.connection.run("BEGIN")
            auth.authorize(auth.token())
            told += auth.connection.run("SELECT identity.lock_failed(:e, CAST(:a AS inet), NULL)", e=email, a=address)[
                0
            ]
            auth.connection.run("COMMIT")
    finally:
        auth.connection.close()
    return told


def guess_from_everywhere(stack, email, times):
    assert set(guess_from(stack, email, [f"198.51.{n // 250}.{n % 250}" for n in range(times)])) <= {0, 60}


def test_an_ipv6_subscriber_is_one_place(stack, nora):
    told = guess_from(stack, nora.email, [f"2001:db8:1:2:{n}::1" for n in range(6)] + ["2001:db8:1:3::1"])

    assert told[:5] == [0] * 5
    assert told[5] > 0
    assert told[6] == 0


def test_ipv4_addresses_written_as_ipv6_are_not_one_place(stack, nora):
    told = guess_from(stack, nora.email, [f"::ffff:198.51.100.{n}" for n in (*[1] * 6, 2)])

    assert told[:5] == [0] * 5
    assert told[5] > 0
    assert told[6] == 0


def test_many_addresses_together_lock_what_is_not_known(api, stack, admin, nora, from_elsewhere):
    cookie = device(log_in(api, nora.email, PASSWORD))
    from_elsewhere(nora)
    guess_from_everywhere(stack, nora.email, 50)

    locked = log_in(api, nora.email, PASSWORD)
    assert refused(locked, 429, "account_locked")
    assert int(locked.headers["Retry-After"]) <= 60
    assert log_in_with(api, nora, cookie).status_code == 200


def test_strangers_do_not_lock_somebody_who_is_logged_in(api, stack, nora):
    """Wherever she is, and whether or not her program keeps cookies: her log-in is what strangers do not have."""
    guess_from_everywhere(stack, nora.email, 60)

    body = {"current_password": PASSWORD, "new_password": "a harbour full of herons"}
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")
    assert api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=nora).status_code == 200
    assert api.post("/v1/auth/password/change", json=body, headers=nora).status_code == 204


def test_who_has_stolen_a_log_in_guesses_no_more_from_many_addresses(api, admin, nora):
    place = "SELECT array_agg(place ORDER BY place) FROM identity.login_locks WHERE account_id = :u"
    for _ in range(5):
        answer = api.post("/v1/auth/step-up", json={"password": WRONG}, headers=nora)
        assert refused(answer, 401, "invalid_credentials")

    assert refused(api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=nora), 429, "account_locked")
    assert admin.run(place, u=nora.user_id) == [[["127.0.0.1/32", "sessions"]]]
    admin.run("UPDATE identity.login_locks SET locked_until = NULL WHERE account_id = :u", u=nora.user_id)
    admin.run(
        "UPDATE identity.login_locks SET failed_at = array_fill(clock_timestamp(), ARRAY[49]), locks = 0"
        " WHERE account_id = :u AND place = 'sessions'",
        u=nora.user_id,
    )
    admin.run("DELETE FROM identity.login_locks WHERE account_id = :u AND place <> 'sessions'", u=nora.user_id)
    assert refused(api.post("/v1/auth/step-up", json={"password": WRONG}, headers=nora), 401, "invalid_credentials")
    assert refused(api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=nora), 429, "account_locked")


def test_many_addresses_do_not_lock_an_address_of_hers(api, stack, nora):
    log_in(api, nora.email, PASSWORD)
    guess_from_everywhere(stack, nora.email, 60)

    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_many_addresses_lock_an_unknown_address_too(api, stack):
    stranger = new_address()
    guess_from_everywhere(stack, stranger, 50)

    assert refused(log_in(api, stranger, WRONG), 429, "account_locked")


def test_two_hundred_at_a_time_are_told_no_more_than_five(api, admin, nora):
    def guess(_):
        body = {"email": nora.email, "password": WRONG}
        return requests.post(f"{api.base}/v1/auth/login", json=body, timeout=30).status_code

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(guess, range(200)))

    assert set(answers) <= {401, 429, 503}
    assert answers.count(401) <= 5
    assert locks(admin, nora.email)["127.0.0.1/32"][1] == 1
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_step_up_counts_in_the_same_lock(api, admin, nora):
    for _ in range(5):
        answer = api.post("/v1/auth/step-up", json={"password": WRONG}, headers=nora)
        assert refused(answer, 401, "invalid_credentials")

    assert refused(api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=nora), 429, "account_locked")
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_the_lock_outlives_the_cache(api, admin, stack, nora):
    fail(api, nora.email)
    valkey.from_url(stack["valkey"]).flushall()

    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_the_database_keeps_no_address_of_who_is_unknown(api, admin):
    stranger = new_address()
    fail(api, stranger, 2)

    rows = admin.run("SELECT l::text FROM identity.login_locks l")
    assert rows
    assert not any(stranger in row[0] for row in rows)


def test_nobody_clears_or_reads_the_lock_of_somebody_else(stack, admin, nora, mallory, api):
    fail(api, nora.email, 3)
    before = locks(admin, nora.email)
    auth = Attacker(stack, "auth_fn")
    try:
        auth.begin_sealed(mallory)
        seen = auth.try_all(
            [
                f"SELECT 'wait', identity.lock_wait('{nora.email}', '127.0.0.1', NULL)",
                f"SELECT identity.lock_clear('{nora.email}', '127.0.0.1', NULL)",
                f"SELECT identity.lock_failed('{nora.email}', '127.0.0.1', NULL)",
                "SELECT * FROM identity.login_locks",
                "DELETE FROM identity.login_locks",
                "COMMIT",
            ]
        )
    finally:
        auth.connection.close()

    assert nora.user_id not in seen
    assert locks(admin, nora.email) == before


def test_the_token_of_a_log_in_still_works_within_the_lock(api, nora):
    tokens = log_in(api, nora.email, PASSWORD).json
    fail(api, nora.email)

    assert api.get("/v1/auth/me", headers=bearer(tokens)).status_code == 200
