"""`make demo` plays through, and says so when something of the erased person is left; the account of a new stack."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.conftest import CHECKOUT, Api, People

DEMO_SECONDS = 240


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "local.demo", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DEMO_SECONDS, check=False)


def test_it_works() -> None:
    """With a stack of its own, whose links live for seconds, beside the one of these tests."""
    played = demo()

    assert played.returncode == 0, played.stdout + played.stderr
    assert re.search(r"\n(\d+) of \1 checks held, [\d.]+ s in all\n", played.stdout)
    assert int(re.findall(r"\n(\d+) of", played.stdout)[0]) > 90
    assert "✗" not in played.stdout
    assert "\x1b" not in played.stdout
    assert "an old log-in may not erase: 403" in played.stdout
    assert re.search(r"the link's \d+ s are over", played.stdout)
    assert "sessions-1 is killed" in played.stdout
    assert played.stdout.count("in order, none lost, none twice") == 2


def test_a_trace_of_the_erased_person_is_a_failure(stack: dict[str, Any], api: Api, people: People) -> None:
    """Somebody else's project carries the name of the person who will leave: nothing erases it, so it must be told."""
    name = f"Xantippe Ðrøgemøller-{uuid.uuid4().hex[:10]}"
    somebody = people.create("owner")
    answer = api.post("/v1/projects", json={"name": "Minutes", "description": f"with {name}."}, headers=somebody)
    assert answer.status_code == 201

    played = demo("--stack", stack["path"], "--name", name)

    assert played.returncode == 1, played.stdout + played.stderr
    failed = [line for line in played.stdout.split("\n") if line.startswith("  ✗")]
    assert failed
    assert all("no byte of name, address or organization in the dump" in line for line in failed)
    assert name.encode().lower().decode() in played.stdout


def test_the_account_of_a_new_stack(stack: dict[str, Any], api: Api) -> None:
    account = stack["demo"]
    credentials = {"email": account["email"], "password": account["password"]}
    answer = api.post("/v1/auth/login", json=credentials)

    assert answer.status_code == 200
    assert answer.json["organization"]["id"] == account["organization_id"]
    assert answer.json["organization"]["role"] == "owner"


def test_seeding_again_finds_the_same_account(stack: dict[str, Any]) -> None:
    layout = str(Path(stack["path"]).with_name("layout.json"))
    command = [sys.executable, "-m", "local.seed_demo", "--layout", layout]
    again = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True)

    assert json.loads(again.stdout) == stack["demo"]
