"""The issuer: tokens prove what they say, to everyone who shares the stack, and nothing else."""

import multiprocessing
from pathlib import Path
from urllib.parse import quote

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from local.identity import ACCESS_AUDIENCE, Issuer, Refused
from local.layout import service_account

ALICE = service_account("auth")
AUDIENCE = "http://127.0.0.1:9/"


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


def test_it_works(issuer: Issuer) -> None:
    assert issuer.verify_access_token(f"Bearer {issuer.access_token(ALICE)}") == ALICE
    assert issuer.verify_identity_token(issuer.identity_token(ALICE, AUDIENCE), AUDIENCE) == ALICE


def test_an_identity_token_verifies_with_the_key_set_alone(issuer: Issuer) -> None:
    token = issuer.identity_token(ALICE, AUDIENCE)
    keys = jwt.PyJWKSet.from_dict(issuer.jwks())
    key = keys[jwt.get_unverified_header(token)["kid"]]

    claims = jwt.decode(token, key, audience=AUDIENCE, issuer="https://accounts.google.com")

    assert claims["email"] == ALICE
    assert claims["email_verified"] is True
    assert claims["exp"] - claims["iat"] == 3600


def test_another_audience_is_refused(issuer: Issuer) -> None:
    with pytest.raises(Refused):
        issuer.verify_identity_token(issuer.identity_token(ALICE, AUDIENCE), "http://127.0.0.1:10/")


def test_an_expired_token_is_refused(issuer: Issuer) -> None:
    with pytest.raises(Refused):
        issuer.verify_identity_token(issuer.identity_token(ALICE, AUDIENCE, seconds=-1), AUDIENCE)
    with pytest.raises(Refused):
        issuer.verify_access_token(f"Bearer {issuer.access_token(ALICE, seconds=-1)}")


def test_an_identity_token_is_no_access_token(issuer: Issuer) -> None:
    with pytest.raises(Refused):
        issuer.verify_access_token(f"Bearer {issuer.identity_token(ALICE, ACCESS_AUDIENCE)}")
    with pytest.raises(Refused):
        issuer.verify_identity_token(issuer.access_token(ALICE), ACCESS_AUDIENCE)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer abc", "Bearer a.b.c"])
def test_rubbish_is_refused(issuer: Issuer, header: str | None) -> None:
    with pytest.raises(Refused):
        issuer.verify_access_token(header)


def test_a_token_of_another_stack_is_refused(issuer: Issuer, tmp_path: Path) -> None:
    other = Issuer(tmp_path / "other")
    with pytest.raises(Refused):
        issuer.verify_access_token(f"Bearer {other.access_token(ALICE)}")


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        tokens = pool.starmap(_token, [(tmp_path,)] * 8)

    assert [Issuer(tmp_path).verify_access_token(f"Bearer {token}") for token in tokens] == [ALICE] * 8


def test_a_signature_of_an_account_verifies_with_its_public_key_only(issuer: Issuer) -> None:
    _, signature = issuer.sign_blob(ALICE, b"blob")
    issuer.sign_blob(service_account("exports"), b"blob")

    issuer.account_public_key(ALICE).verify(signature, b"blob", padding.PKCS1v15(), SHA256())
    other = issuer.account_public_key(service_account("exports"))
    with pytest.raises(InvalidSignature):
        other.verify(signature, b"blob", padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("email", [service_account("never"), "../issuer", quote("../x"), "alice@example.com"])
def test_an_account_without_a_key_is_refused(issuer: Issuer, email: str) -> None:
    with pytest.raises(Refused):
        issuer.account_public_key(email)


def _token(root: Path) -> str:
    return Issuer(root).access_token(ALICE)
