"""Passwords: Argon2id (RFC 9106) with a bounded queue, and what a password must not be (NIST SP 800-63B, 5.1.1.2)."""

import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from common import errors
from common.settings import settings

MIN_LENGTH, MAX_LENGTH = 12, 128
WAIT_SECONDS = 2.0
WORD_LENGTH = 4  # shorter words of a name are no hint
WHOLE_LENGTH = 3

_turns = threading.BoundedSemaphore(os.cpu_count() or 1)


def check_policy(password: str, *personal: str) -> None:
    """Refuse a password by its length, or for holding one of the personal words. Raises 422 `weak_password`."""
    length = len(_normal(password))
    if length < MIN_LENGTH:
        raise _weak(f"Use at least {MIN_LENGTH} characters.")
    if length > MAX_LENGTH:
        raise _weak(f"Use at most {MAX_LENGTH} characters.")
    folded = _normal(password).casefold()
    if any(word in folded for word in _hints(personal)):
        raise _weak("Do not use your name, e-mail address or organization.")


def hash_new(password: str) -> str:
    """The encoded hash of a new password. Raises 503 when too many wait."""
    with _turn():
        return _hasher().hash(_normal(password))


def matches(encoded: str | None, password: str) -> bool:
    """Whether the password is the one behind the hash. Without a hash: the same work, and no. Raises 503."""
    known = encoded or _nobody()
    with _turn():
        try:
            return _hasher().verify(known, _normal(password)) and encoded is not None
        except VerifyMismatchError:
            return False


def outdated(encoded: str) -> bool:
    """Whether the parameters have grown since the hash was made."""
    made, now = extract_parameters(encoded), settings()
    return made.memory_cost < now.argon2_memory_kib or made.time_cost < now.argon2_time_cost


def _normal(password: str) -> str:
    """The same characters whatever keyboard typed them."""
    return unicodedata.normalize("NFKC", password)


def _hints(personal: tuple[str, ...]) -> Iterator[str]:
    for text in personal:
        whole = _normal(text).casefold().strip()
        local = whole.partition("@")[0] if "@" in whole else whole
        for candidate in {whole, local}:
            if len(candidate) >= WHOLE_LENGTH:
                yield candidate
        yield from (word for word in re.split(r"[\W_]+", local) if len(word) >= WORD_LENGTH)


def _weak(reason: str) -> errors.Problem:
    return errors.Problem("weak_password", reason, errors={"password": [reason]})


@contextmanager
def _turn() -> Iterator[None]:
    """As many hashes at a time as there are processors: each takes one, and megabytes of memory."""
    if not _turns.acquire(timeout=WAIT_SECONDS):
        raise errors.Problem("unavailable", "Too many log-ins at the moment.", headers={"Retry-After": "2"})
    try:
        yield
    finally:
        _turns.release()


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(
        time_cost=settings().argon2_time_cost,
        memory_cost=settings().argon2_memory_kib,
        parallelism=settings().argon2_parallelism,
    )


@cache
def _nobody() -> str:
    """A hash of nobody's password with the present parameters."""
    return _hasher().hash(secrets.token_urlsafe(32))
