"""Passwords: what is refused, and how many are hashed at a time."""

import contextlib
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

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
        ("x" * 12, ()),
        ("password1234", ()),
        ("P@ssw0rd1234", ()),
        ("123456789012", ()),
        ("qwertyuiop123", ()),
        ("passwordpassword", ()),
        ("iloveyouforever", ()),
        ("1qaz2wsx3edc4rfv", ()),
    ],
)
def test_refused(password, personal):
    with pytest.raises(errors.Problem) as refusal:
        passwords.check_policy(password, *personal)
    assert refusal.value.code == "weak_password"


@pytest.mark.parametrize(
    ("password", "personal"),
    [
        ("vixen jumps!", ()),
        ("x" * 128, ()),
        ("日本語のパスワード一二三四", ()),
        ("correct horse battery staple", ()),
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


def test_the_list_is_read_when_a_password_is_judged():
    """Most processes never do."""
    command = "import sys; from common import passwords; sys.exit('zxcvbn_rs_py' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_a_password_that_is_hard_to_judge_does_not_hold_anybody_up():
    begun = time.monotonic()
    passwords.check_policy("4@8({[<6936!1|105$5+7%2" * 5)
    with contextlib.suppress(errors.Problem):
        passwords.check_policy(("4@8({[<6936!1|105$5+7%2" * 2)[:32])
    assert time.monotonic() - begun < 10


@dataclass
class Crowd:
    """What happened to those who came at once."""

    most: int = 0
    inside: int = 0
    refused: list[errors.Problem] = field(default_factory=list)
    served: int = 0


def crowd(running, waiting, people):
    """`people` come while the first ones are still inside."""
    queue, seen, lock = passwords.Queue(running), Crowd(), threading.Lock()
    open_door = threading.Event()

    def come():
        try:
            with queue.enter(waiting):
                with lock:
                    seen.inside += 1
                    seen.most = max(seen.most, seen.inside)
                open_door.wait(10)
                with lock:
                    seen.inside -= 1
                    seen.served += 1
        except errors.Problem as problem:
            with lock:
                seen.refused.append(problem)

    threads = [threading.Thread(target=come) for _ in range(people)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(seen.refused) < people - running - waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    refused_while_full = len(seen.refused)
    open_door.set()
    for thread in threads:
        thread.join(10)
    return seen, refused_while_full


def test_so_many_run_so_many_wait_and_the_rest_is_refused_at_once():
    seen, refused_while_full = crowd(running=2, waiting=3, people=50)

    assert (seen.most, seen.served, refused_while_full, len(seen.refused)) == (2, 5, 45, 45)
    assert {(problem.code, problem.status) for problem in seen.refused} == {("unavailable", 503)}
    assert all(int(problem.headers["Retry-After"]) > 0 for problem in seen.refused)


def test_after_the_rush_there_is_room_again():
    queue = passwords.Queue(1)
    with pytest.raises(ValueError, match="inside"), queue.enter(0):
        raise ValueError("inside")

    with queue.enter(0):
        pass
