"""Passwords: what is refused, and how many are hashed at a time."""

import pytest
from argon2 import PasswordHasher

from common import errors, passwords
from common.settings import settings


@pytest.fixture(autouse=True)
def known_settings(monkeypatch):
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("password", "personal"),
    [
        ("short", ()),
        ("x" * 11, ()),
        ("x" * 129, ()),
        ("hello NIELS.ABEL hello", ("niels.abel@example.org",)),
        ("hello abel hello hello", ("niels.abel@example.org",)),
        ("the ｂｅｒｇ in disguise", ("Berg",)),
        ("fjord-labs-2026", ("Fjord-Labs",)),
    ],
)
def test_refused(password, personal):
    with pytest.raises(errors.Problem) as refusal:
        passwords.check_policy(password, *personal)
    assert refusal.value.code == "weak_password"


@pytest.mark.parametrize(
    ("password", "personal"),
    [
        ("x" * 12, ()),
        ("x" * 128, ()),
        ("an example with a domain", ("a@example.org",)),
        ("a house by the sea", ("A", "By Us")),
    ],
)
def test_accepted(password, personal):
    passwords.check_policy(password, *personal)


def test_the_same_characters_are_the_same_password():
    encoded = passwords.hash_new("cafe\u0301 au lait noir")

    assert passwords.matches(encoded, "caf\u00e9 au lait noir")
    assert not passwords.matches(encoded, "cafe au lait noir")


def test_nobody_has_a_password():
    assert not passwords.matches(None, "anything at all")


def test_a_hash_is_outdated_when_the_parameters_have_grown():
    def made(**parameters):
        return PasswordHasher(**{"memory_cost": 19_456, "time_cost": 2, "parallelism": 1, **parameters}).hash("x")

    assert passwords.outdated(made(memory_cost=16_384))
    assert passwords.outdated(made(time_cost=1))
    assert not passwords.outdated(made())
    assert not passwords.outdated(made(memory_cost=32_768))


def test_who_waits_too_long_is_told_to_come_back(monkeypatch):
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    taken = 0
    while passwords._turns.acquire(blocking=False):
        taken += 1
    try:
        with pytest.raises(errors.Problem) as refusal:
            passwords.hash_new("a long enough password")
    finally:
        for _ in range(taken):
            passwords._turns.release()
    assert (refusal.value.status, "Retry-After" in refusal.value.headers) == (503, True)
    assert passwords.hash_new("a long enough password")
