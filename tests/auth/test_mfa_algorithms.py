"""What second factors rest on: RFC 4226 and 6238, encryption at rest, the address of an authenticator app."""

import base64
import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from common import secrets, vault
from common.settings import settings
from functions.auth import recovery, totp

SECRET = b"12345678901234567890"
RING = "mfa-key"


@pytest.mark.parametrize(
    ("counter", "code"),
    [
        *((0, "755224"), (1, "287082"), (2, "359152"), (3, "969429"), (4, "338314")),
        *((5, "254676"), (6, "287922"), (7, "162583"), (8, "399871"), (9, "520489")),
    ],
)
def test_rfc_4226_appendix_d(counter, code):
    assert totp.code(SECRET, counter) == code


@pytest.mark.parametrize(
    ("moment", "eight_digits"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_rfc_6238_appendix_b(moment, eight_digits):
    step = moment // 30
    assert totp.code(SECRET, step) == eight_digits[2:]
    assert totp.matching_step(SECRET, eight_digits[2:], moment, None) == step


@pytest.mark.parametrize(("drift", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_one_step_of_drift(drift, accepted):
    found = totp.matching_step(SECRET, totp.code(SECRET, 1000 + drift), 1000 * 30 + 15, None)

    assert found == (1000 + drift if accepted else None)


@pytest.mark.parametrize(("last", "accepted"), [(998, True), (999, True), (1000, False), (1001, False)])
def test_a_step_is_later_than_the_last(last, accepted):
    assert (totp.matching_step(SECRET, totp.code(SECRET, 1000), 1000 * 30, last) == 1000) is accepted


def test_the_address_of_an_app():
    address = totp.uri(SECRET, "anna@example.org")

    part = urlsplit(address)
    assert (part.scheme, part.netloc, unquote(part.path)) == ("otpauth", "totp", "/Dev Context:anna@example.org")
    assert parse_qs(part.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"],
        "issuer": ["Dev Context"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert "+" not in address, "apps show a plus as it is"


def test_secrets_have_160_bits_and_recovery_codes_120():
    assert len({totp.new_secret() for _ in range(100)}) == 100
    assert len(totp.new_secret()) * 8 == 160
    assert len(recovery.ALPHABET) == 32
    assert recovery.LENGTH * 5 == 120


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """Writes the key ring that the vault reads, as a new version of the secret would."""
    for name in ("service", "database_url", "public_url", "service_url"):
        monkeypatch.setenv(name.upper(), "x")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings.cache_clear()

    def write(active, *kids):
        keys = {
            kid: {"algorithm": "HS256", "key": base64.urlsafe_b64encode((kid * 32).encode()[:32]).decode()}
            for kid in kids
        }
        (tmp_path / RING).write_text(json.dumps({"active": active, "keys": keys}))
        secrets._seen.pop(RING, None)

    yield write
    secrets._seen.pop(RING, None)
    secrets._rings.pop(RING, None)
    settings.cache_clear()


def test_sealed_text_is_read_by_whom_it_is_bound_to(ring):
    ring("a", "a")
    sealed = vault.seal(RING, SECRET, "factor", "account")

    assert vault.read(RING, sealed, "factor", "account") == SECRET
    assert SECRET not in base64.urlsafe_b64decode(sealed.split(".")[2])
    assert vault.seal(RING, SECRET, "factor", "account") != sealed
    for bound in (("factor", "other"), ("other", "account"), ("factor",), ()):
        with pytest.raises(vault.Unreadable):
            vault.read(RING, sealed, *bound)


def test_altered_text_is_not_read(ring):
    ring("a", "a", "b")
    version, kid, text = vault.seal(RING, SECRET, "x").split(".")
    raw = bytearray(base64.urlsafe_b64decode(text))
    raw[-1] ^= 1
    flipped = base64.urlsafe_b64encode(raw).decode()

    for other in (
        f"{version}.{kid}.{flipped}",
        f"{version}.b.{text}",
        f"{version}.c.{text}",
        f"v2.{kid}.{text}",
        "",
        "v1.a.",
    ):
        with pytest.raises(vault.Unreadable):
            vault.read(RING, other, "x")


def test_a_new_key_seals_and_the_old_one_still_reads(ring):
    ring("a", "a")
    old = vault.seal(RING, SECRET, "x")
    assert not vault.outdated(RING, old)

    ring("b", "a", "b")
    assert vault.read(RING, old, "x") == SECRET
    assert vault.outdated(RING, old)
    assert vault.seal(RING, SECRET, "x").startswith("v1.b.")

    ring("b", "b")
    with pytest.raises(vault.Unreadable):
        vault.read(RING, old, "x")
