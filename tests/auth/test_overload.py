"""More log-ins at once than can be checked: some are served, the others told at once to come back, nobody hangs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.auth.support import PASSWORD, new_address
from tests.conftest import Api, People, database, pid_of, running_stack

MIB = 1024
AT_ONCE = 48


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A stack whose log-ins do not wait for their turn."""
    with running_stack(tmp_path_factory.mktemp("stack"), only=["auth"], HASHING_WAITING="0") as running:
        yield running


def resident(pid):
    """Resident memory of a process and its children in MiB."""
    pids, total = [pid], 0
    while pids:
        folder = Path(f"/proc/{pids.pop()}")
        total += int((folder / "status").read_text().partition("VmRSS:")[2].split()[0])
        pids += [
            int(child) for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()
        ]
    return total / MIB


def flood(base, bodies):
    def log_in(body):
        answer = requests.post(f"{base}/v1/auth/login", json=body, timeout=30)
        return answer.status_code, answer.json()["code"], answer.headers.get("Retry-After"), answer.elapsed

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(log_in, bodies))


def test_a_flood(small):
    wrong = [{"email": new_address(), "password": "not the right password"} for _ in range(AT_ONCE * 6)]
    flood(small["api"], wrong[:AT_ONCE])
    before = resident(pid_of(small, "auth"))
    answers = flood(small["api"], wrong[AT_ONCE:])

    assert {(status, code) for status, code, _, _ in answers} == {(401, "invalid_credentials"), (503, "unavailable")}
    assert all(int(wait) > 0 for status, _, wait, _ in answers if status == 503)
    assert max(elapsed.total_seconds() for *_, elapsed in answers) < 15
    assert resident(pid_of(small, "auth")) - before < 100


def test_afterwards_it_is_as_before(small):
    with database(small["postgres"]["admin"]) as connection:
        nora = People(small, connection).create("owner", password=PASSWORD)
    body = {"email": nora.email, "password": PASSWORD}

    assert Api(small["api"]).post("/v1/auth/login", json=body).status_code == 200
