"""Recovery codes: for people who have lost their factors."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.auth.mfa_support import FACTORS, VERIFY, added, confirm, enrolled, first_proof, verify
from tests.auth.support import claims, events, refused
from tests.conftest import Api


@pytest.fixture
def codes(api, admin, alice):
    return enrolled(api, admin, alice)[1]


def left(api, person):
    return api.get(FACTORS, headers=person).json["recovery_codes_left"]


def test_it_works(api, admin, inbox, alice, codes):
    answer = verify(api, first_proof(api, alice)["mfa_token"], recovery_code=codes[3])

    assert answer.status_code == 200
    assert {"pwd", "mfa"} <= set(claims(answer.json["access_token"])["amr"])
    assert events(admin, alice.tenant_id)[-1]["data"]["method"] == "password+recovery_code"
    assert left(api, alice) == 9
    inbox.wait_for(alice.email, "recovery code was used")


def test_each_works_once(api, alice, codes):
    assert verify(api, first_proof(api, alice)["mfa_token"], recovery_code=codes[0]).status_code == 200

    again = verify(api, first_proof(api, alice)["mfa_token"], recovery_code=codes[0])
    assert refused(again, 401, "invalid_code")
    assert verify(api, first_proof(api, alice)["mfa_token"], recovery_code=codes[1]).status_code == 200


def test_each_works_once_at_any_concurrency(api, stack, alice, codes):
    waiting = [first_proof(api, alice)["mfa_token"] for _ in range(8)]

    def attempt(token):
        client = Api(stack["api"])
        answer = client.post(VERIFY, json={"mfa_token": token, "recovery_code": codes[0]})
        client._session.close()
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, waiting)).count(200) == 1


def test_it_is_read_as_people_write_it(api, alice, codes):
    written = codes[0].lower().replace("-", " ").replace("0", "o").replace("1", "l")

    assert verify(api, first_proof(api, alice)["mfa_token"], recovery_code=written).status_code == 200


def test_somebody_elses_is_wrong(api, admin, people, alice, codes, mallory):
    _, theirs = enrolled(api, admin, mallory)

    assert refused(verify(api, first_proof(api, alice)["mfa_token"], recovery_code=theirs[0]), 401, "invalid_code")
    assert left(api, mallory) == 10


def test_only_hashes_are_kept(api, admin, alice, codes):
    rows = admin.run(
        "SELECT to_json(r)::text FROM identity.mfa_recovery_codes r WHERE account_id = :u", u=alice.user_id
    )

    assert len(rows) == 10
    for code in codes:
        for form in (code, code.replace("-", "")):
            assert form not in str(rows)
            assert form.encode().hex() not in str(rows)


def test_a_wrong_one_counts_as_a_try(api, admin, alice, codes):
    token = first_proof(api, alice)["mfa_token"]
    for _ in range(5):
        assert verify(api, token, recovery_code="0000-0000-0000-0000-0000-0000").status_code in {401, 429}
        admin.run("DELETE FROM identity.login_locks WHERE account_id = :u", u=alice.user_id)

    assert refused(verify(api, token, recovery_code=codes[0]), 401, "invalid_token")


def test_new_ones_come_when_none_is_left(api, admin, alice, codes):
    admin.run("UPDATE identity.mfa_recovery_codes SET used_at = now() WHERE account_id = :u", u=alice.user_id)
    app = added(api, alice)

    fresh = confirm(api, alice, app.factor_id, app.code()).json["recovery_codes"]
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    assert left(api, alice) == 10
