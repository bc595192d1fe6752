"""Access tokens that were not made by us, or not for this."""

import base64
import hashlib
import hmac
import json
import time
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.auth.support import PASSWORD, log_in, refused


def ask(api, token):
    return api.get("/v1/auth/me", headers={"Authorization": f"Bearer {token}"})


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def make(people, alice):
    """A token about Alice, with changes."""
    usual = {"sub": alice.user_id, "account_id": alice.user_id, "tenant_id": alice.tenant_id, "sid": alice.session_id}

    def with_changes(**changes):
        return people.token(**{**usual, **changes})

    return with_changes


def test_the_unchanged_one_is_accepted(api, make):
    assert ask(api, make()).status_code == 200


def test_our_own_are_signed_by_the_active_key_and_typed(api, alice, people):
    token = log_in(api, alice.email, "correct horse battery staple").json["access_token"]
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["kid"], header["alg"]) == ("at+jwt", people._kid, "HS256")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "https://elsewhere.example"},
        {"exp": int(time.time()) - 60},
        {"nbf": int(time.time()) + 600},
        {"iat": int(time.time()) + 600},
        {"sub": "somebody"},
        {"sid": str(uuid.uuid4())},
        {"tenant_id": str(uuid.uuid4())},
        {"tenant_id": ""},
        {"headers": {"typ": "JWT"}},
        {"headers": {"typ": "id+jwt"}},
        {"headers": {"kid": "unknown"}},
        {"key": b"another key of thirty-two bytes!"},
        {"headers": {"typ": None}},
        {"headers": {"crit": ["exp"]}},
        {"headers": {"jku": "http://127.0.0.1:1/keys"}},
        {"headers": {"x5u": "http://127.0.0.1:1/chain"}},
        {"headers": {"zip": "DEF"}},
        {"headers": {"kid": "../../dev/null"}},
        {"headers": {"kid": "' OR ''='"}},
        {"exp": 2**70},
        {"exp": float(int(time.time()) + 600)},
        {"exp": True},
        {"auth_time": int(time.time()) + 600},
        {"aud": ["https://elsewhere.example"]},
    ],
)
def test_a_changed_one_is_refused(api, make, changes):
    answer = ask(api, make(**changes))

    assert refused(answer, 401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer error=")


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "tenant_id", "iat", "nbf", "exp", "auth_time"])
def test_every_claim_is_needed(api, people, make, claim):
    said = jwt.decode(make(), options={"verify_signature": False})
    del said[claim]
    headers = {"typ": "at+jwt", "kid": people._kid}
    assert refused(ask(api, jwt.encode(said, people.secret, "HS256", headers=headers)), 401, "invalid_token")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
def test_no_signature_is_no_token(api, people, make, algorithm):
    payload = make().split(".")[1]
    header = part({"alg": algorithm, "typ": "at+jwt", "kid": people._kid})

    for signature in ("", part(b"x" * 32)):
        assert refused(ask(api, f"{header}.{payload}.{signature}"), 401, "invalid_token")


def test_an_altered_payload_is_refused(api, make, mallory):
    header, payload, signature = make().split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    said.update(sub=mallory.user_id, account_id=mallory.user_id, tenant_id=mallory.tenant_id, sid=mallory.session_id)

    assert refused(ask(api, f"{header}.{part(said)}.{signature}"), 401, "invalid_token")


def test_the_algorithm_is_the_keys_not_the_tokens(api, people, make):
    """A token signed by RSA under a shared key's id, and right keys under wrong names of algorithms."""
    payload = make().split(".")[1]
    said = jwt.decode(make(), options={"verify_signature": False})
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    headers = {"typ": "at+jwt", "kid": people._kid}
    assert refused(ask(api, jwt.encode(said, foreign, "RS256", headers=headers)), 401, "invalid_token")

    for algorithm, function in (("RS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        header = part({"alg": algorithm, **headers})
        mac = hmac.digest(people.secret, f"{header}.{payload}".encode(), function)
        assert refused(ask(api, f"{header}.{payload}.{part(mac)}"), 401, "invalid_token")


@pytest.mark.parametrize("header", [{"jwk": {"kty": "oct", "k": "eA"}}, {"jku": "http://127.0.0.1:1/keys"}])
def test_a_key_in_the_token_is_not_looked_at(api, make, header):
    assert refused(ask(api, make(headers={**header, "kid": "unknown"})), 401, "invalid_token")


@pytest.mark.parametrize("token", ["x", "a.b.c", "....", "eyJ9.e30."])
def test_what_is_no_token_at_all(api, token):
    assert refused(ask(api, token), 401, "invalid_token")


def test_a_refresh_token_is_not_an_access_token(api, people):
    nora = people.create("owner", password=PASSWORD)
    tokens = log_in(api, nora.email, PASSWORD).json

    assert refused(ask(api, tokens["refresh_token"]), 401, "invalid_token")


def test_a_token_in_the_address_is_ignored(api, make):
    assert refused(api.get(f"/v1/auth/me?access_token={make()}"), 401, "invalid_token")


def test_a_session_of_somebody_else(api, make, mallory, dan, people):
    """Signed by our own key: the database knows whose a log-in session is, and who is a member where."""
    for other in (mallory, dan):
        assert refused(ask(api, make(sid=other.session_id)), 401, "invalid_token")
        assert refused(ask(api, make(sub=other.user_id)), 401, "invalid_token")
    assert refused(ask(api, make(tenant_id=mallory.tenant_id)), 401, "invalid_token")
    assert refused(ask(api, make(tenant_id=mallory.tenant_id, sid=mallory.session_id)), 401, "invalid_token")


def test_a_session_that_was_ended(api, people, alice, make):
    token, other = make(), people.log_in(alice)
    assert ask(api, token).status_code == 200

    assert api.delete(f"/v1/auth/sessions/{alice.session_id}", headers=other).status_code == 204

    assert refused(ask(api, token), 401, "invalid_token")
    assert ask(api, other.token).status_code == 200


def test_one_letter_of_each_part(api, make):
    token = make()
    for number, segment in enumerate(token.split(".")):
        for position in (0, len(segment) // 2, len(segment) - 1):
            altered = segment[:position] + ("A" if segment[position] != "A" else "B") + segment[position + 1 :]
            parts = [*token.split(".")[:number], altered, *token.split(".")[number + 1 :]]
            assert refused(ask(api, ".".join(parts)), 401, "invalid_token")


@pytest.mark.parametrize("brackets", [b"[" * 700, b'{"a":' * 150])
def test_nesting(api, people, make, brackets):
    head, payload, signature = make().split(".")
    assert refused(ask(api, f"{part(brackets)}.{payload}.{signature}"), 401, "invalid_token")
    message = f"{head}.{part(brackets * 4)}"
    mac = hmac.digest(people.secret, message.encode(), "sha256")
    assert refused(ask(api, f"{message}.{part(mac)}"), 401, "invalid_token")


@pytest.mark.parametrize("kilobytes", [16, 48, 200])
def test_a_huge_token(api, make, kilobytes):
    """The function refuses it unread; one that is too large for the gateway gets no farther than that."""
    answer = ask(api, make(more="x" * 1024 * kilobytes))
    assert answer.status_code == (401 if kilobytes < 32 else 400)


@pytest.mark.parametrize("added", ["=", "==", ".", "é".encode().decode("latin-1"), "~", "%3D"])
def test_other_spellings(api, make, added):
    assert refused(ask(api, make() + added), 401, "invalid_token")


def test_forms_that_are_none(api, make):
    head, payload, signature = make().split(".")
    encrypted = f"{part({'alg': 'dir', 'enc': 'A256GCM'})}..AAAA.AAAA.AAAA"
    for token in (encrypted, f"{head}..{signature}", f"{head}.{payload}", f"{head}.{payload}."):
        assert refused(ask(api, token), 401, "invalid_token")


def test_a_member_that_stands_twice(api, people, make):
    head, payload, _ = make().split(".")
    said = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    twice = said[:-1] + json.dumps({"sub": str(uuid.uuid4())}).encode().replace(b"{", b",")
    message = f"{head}.{part(twice)}"
    mac = hmac.digest(people.secret, message.encode(), "sha256")
    assert refused(ask(api, f"{message}.{part(mac)}"), 401, "invalid_token")
