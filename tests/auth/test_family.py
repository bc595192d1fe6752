"""The construction of refresh tokens, over a key that is rotated."""

import base64
import hashlib
import hmac
import json
import uuid

import pytest

from common import errors, secrets
from common.settings import settings
from functions.auth import family

FAMILY = str(uuid.uuid4())
OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """Write the ring `refresh-key` as Secret Manager mounts it, and forget what was read before."""
    for name in ("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    monkeypatch.setenv("SERVICE", "auth")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings.cache_clear()

    def write(active, **keys):
        secrets._seen.clear()
        encoded = {
            kid: {"algorithm": "HS256", "key": base64.urlsafe_b64encode(key).rstrip(b"=").decode()}
            for kid, key in keys.items()
        }
        (tmp_path / "refresh-key").write_text(json.dumps({"active": active, "keys": encoded}))

    yield write
    secrets._seen.clear()
    settings.cache_clear()


def test_each_token_follows_from_the_one_before(ring):
    ring("old", old=OLD)
    first = family.first_token()
    raw = base64.urlsafe_b64decode(first + "=")
    message = b"rt1" + uuid.UUID(FAMILY).bytes + (1).to_bytes(4, "big") + raw
    expected = base64.urlsafe_b64encode(hmac.digest(OLD, message, hashlib.sha256)).rstrip(b"=").decode()

    assert len(raw) == 32
    assert family.successor(first, FAMILY, 1) == (expected, "old")


def test_a_rotated_key_breaks_no_family(ring):
    ring("old", old=OLD)
    first = family.first_token()
    second, made_by = family.successor(first, FAMILY, 1)
    ring("new", old=OLD, new=NEW)
    third, made_later_by = family.successor(second, FAMILY, 2)

    assert (made_by, made_later_by) == ("old", "new")
    assert family.tip(first, FAMILY, 0, ["old", "new"]) == third
    assert family.tip(second, FAMILY, 1, ["new"]) == third


def test_a_key_that_is_not_known_here_yet_is_waited_for(ring):
    ring("old", old=OLD)
    with pytest.raises(errors.Problem) as refusal:
        family.tip(family.first_token(), FAMILY, 0, ["new"])
    assert refusal.value.status == 503


def test_another_family_or_place_gives_another_token(ring):
    ring("old", old=OLD)
    first = family.first_token()
    found = {family.successor(first, *place)[0] for place in [(FAMILY, 1), (FAMILY, 2), (str(uuid.uuid4()), 1)]}
    assert len(found) == 3
