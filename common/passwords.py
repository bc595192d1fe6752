"""Passwords: Argon2id (RFC 9106) in a bounded queue, and what a password must not be (NIST SP 800-63B-4, 3.1.1.2)."""

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
WORD_LENGTH = 4  # shorter words of a name are no hint
WHOLE_LENGTH = 3
JUDGED_LENGTH = 32  # longer ones stand in no list, and the judge's work grows faster than its text
COMMON_SCORE = 2  # of zxcvbn: fewer than 10^8 guesses by somebody with lists of words and of breached passwords


class Queue:
    """At most `running` at a time, and at most as many behind them as `enter` is told; nobody else waits."""

    def __init__(self, running: int) -> None:
        self.running = running
        self._turns = threading.Semaphore(running)
        self._lock = threading.Lock()
        self._inside = 0

    @contextmanager
    def enter(self, waiting: int) -> Iterator[None]:
        """One's turn. Raises 503 at once when `waiting` others wait already."""
        with self._lock:
            if self._inside >= self.running + waiting:
                raise errors.Problem("unavailable", "Too many log-ins at the moment.", headers={"Retry-After": "1"})
            self._inside += 1
        try:
            with self._turns:
                yield
        finally:
            with self._lock:
                self._inside -= 1


@cache
def _queue() -> Queue:
    """Each hash takes a processor, and megabytes of memory; a thread of the service is left to refuse others."""
    threads = settings().database_pool - 1 - settings().hashing_waiting
    return Queue(max(1, min(os.cpu_count() or 1, threads)))


def check_policy(password: str, *personal: str) -> None:
    """Refuse a password by its length, for holding one of the personal words, or as one that is guessed soon.

    Raises 422 `weak_password`; 503 when too many wait.
    """
    normal = _normal(password)
    if len(normal) < MIN_LENGTH:
        raise _weak(f"Use at least {MIN_LENGTH} characters.")
    if len(normal) > MAX_LENGTH:
        raise _weak(f"Use at most {MAX_LENGTH} characters.")
    folded = normal.casefold()
    if any(word in folded for word in _hints(personal)):
        raise _weak("Do not use your name, e-mail address or organization.")
    if _common(normal):
        raise _weak("This password is too common: it is in the lists that attackers try first, or nearly so.")


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


def _common(normal: str) -> bool:
    """Whether it is a common or breached password, or one with the usual additions, doublings and substitutions.

    zxcvbn (Wheeler, USENIX Security 2016) counts the guesses of an attacker who has lists of 30,000 breached passwords
    and of frequent words and names.
    """
    if len(normal) > JUDGED_LENGTH:
        return False
    from zxcvbn_rs_py import zxcvbn  # noqa: PLC0415 - its lists take megabytes, and most processes check no password

    with _turn():
        return int(zxcvbn(normal).score) <= COMMON_SCORE


def _weak(reason: str) -> errors.Problem:
    return errors.Problem("weak_password", reason, errors={"password": [reason]})


@contextmanager
def _turn() -> Iterator[None]:
    with _queue().enter(settings().hashing_waiting):
        yield


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
