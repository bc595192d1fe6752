"""docs/start.md, followed word for word: a clone, `make run`, an endpoint of one's own, and the test of that."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from local.processes import die_with_parent
from tests.conftest import CHECKOUT, Api, People, Person, refused_by_iam, wait_until

PAGE = (CHECKOUT / "docs" / "start.md").read_text()
PLACED = re.compile(r"^```python\n# (\S+?)(?:, (at the end|above \w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
PIECES = [found.groups() for found in PLACED.finditer(PAGE)]
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
IMPORTED = re.compile(r"`(\w+)` in the list that this file imports from `([\w.]+)`")
TEST = "tests/projects/test_progress.py"
READY_SECONDS = 240
LINKED = ("bin", "include", "lib", "lib64", "pyvenv.cfg")

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")


def sh(script: str, cwd: Path, **environment: str) -> str:
    """What commands say; the first that fails fails all."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first block: a clone of what git knows of this checkout. What `make run` would install is there already."""
    first, folder = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("newcomer")
    listed = "git ls-files -z --cached --others --exclude-standard"
    for name in sh(listed, CHECKOUT).split("\0"):
        if name and (CHECKOUT / name).is_file():
            (first / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, first / name)
    sh("git init -q; git add -A; git -c user.name=A -c user.email=a@example.org commit -qm first", first)
    head, last = COMMANDS[0].rsplit("\n", 2)[:2]
    assert last == "make run"
    sh(head, folder, REPOSITORY=str(first))
    clone = folder / "dev-context"
    (clone / ".venv").mkdir()
    for name in LINKED:
        if (Path(sys.prefix) / name).exists():
            (clone / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (clone / ".venv" / ".installed").write_text(f"{clone.resolve()}\n")
    return clone


@pytest.fixture(scope="module")
def stack(clone: Path) -> Iterator[dict[str, Any]]:
    """What `make run` executes; stopped as by Ctrl-C."""
    command = sh("make --no-print-directory --dry-run run", clone).strip()
    log = (clone / "run.log").open("wb")
    environment = {**os.environ, "TELEMETRY": "off", "PYTHONDONTWRITEBYTECODE": "1"}
    running = subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=clone, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent()
    )
    try:
        told = clone / ".local" / "stack.json"
        said = clone / "run.log"
        wait_until(lambda: " ready after " in said.read_text() or running.poll() is not None, READY_SECONDS, "`ready`")
        assert running.poll() is None, said.read_text()[-3000:]
        yield json.loads(told.read_text()) | {"path": str(told)}
        denied = refused_by_iam(clone / ".local" / "log")
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
        log.close()
    assert denied == set()


def write(clone: Path, path: str, where: str | None, text: str) -> None:
    """A piece of code, where the page says."""
    file = clone / path
    if where is None:
        file.write_text(text)
    elif where == "at the end":
        file.write_text(f"{file.read_text()}\n\n{text}")
    else:
        before = f"\n\ndef {where.removeprefix('above ')}("
        assert file.read_text().count(before) == 1
        file.write_text(file.read_text().replace(before, f"\n\n{text}{before}"))


@pytest.fixture(scope="module")
def said(clone: Path, stack: dict[str, Any]) -> str:
    """What the second terminal shows, from log-in to the new endpoint's answer and the stream."""
    for path, where, text in PIECES:
        write(clone, path, where, text)
    (name, module) = IMPORTED.findall(PAGE)[0]
    main = clone / "functions" / "projects" / "main.py"
    begin = f"from {module} import (\n"
    assert main.read_text().count(begin) == 1
    main.write_text(main.read_text().replace(begin, f"{begin}    {name},\n"))
    return sh("".join(block for block in COMMANDS[1:] if "pytest" not in block), clone)


def test_the_page_has_every_piece() -> None:
    folder = "functions/projects"
    assert [path for path, _, _ in PIECES] == [
        *(f"{folder}/{name}.py" for name in ("schemas", "queries", "main")),
        TEST,
    ]
    assert [block for block in COMMANDS if "pytest" in block] == [f".venv/bin/python -m pytest -q {TEST}\n"]


def test_the_endpoint_answers_what_the_page_says(said: str) -> None:
    promised = re.search(r"^`(\{.*?\})`\. It is in `/docs`", PAGE, re.MULTILINE)
    assert promised
    assert promised[1] in said


def test_the_trail_and_the_stream_show_it(said: str) -> None:
    assert "task.created" in said
    assert re.search(r'^data: .*"Hello"', said, re.MULTILINE), said


def test_the_pages_know_it(said: str, api: Api) -> None:
    paths = api.get("/v1/openapi.json").json["paths"]
    assert paths["/v1/projects/{project_id}/progress"]["get"]["summary"] == "Read how far a project is"


def test_the_code_is_in_order(said: str, clone: Path) -> None:
    """Style as `make lint` wants it, and nothing changed but what the page and its commands write."""
    new = " ".join(path for path, _, _ in PIECES)
    sh(f".venv/bin/ruff check {new}; .venv/bin/ruff format --check {new}", clone)
    made = {"functions/auth/openapi.json", "terraform/gateway.json.tftpl"}
    changed = sh("git status --porcelain --untracked-files=all -- ':!run.log'", clone).splitlines()
    assert {line[3:] for line in changed} == {*(path for path, _, _ in PIECES), *made}


def page_test(clone: Path) -> ModuleType:
    """The test file of the page, as it stands in the clone."""
    spec = importlib.util.spec_from_file_location("tests_of_the_page", clone / TEST)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_tests_hold(said: str, clone: Path, api: Api, people: People) -> None:
    """On the stack that runs; the page starts another one for them."""
    tests = [function for name, function in vars(page_test(clone)).items() if name.startswith("test_")]
    assert len(tests) == 3
    for function in tests:
        cast: dict[str, Api | Person] = {"api": api, "alice": people.create("owner"), "mallory": people.create("owner")}
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        function(**{name: cast[name] for name in wanted})
