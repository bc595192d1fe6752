"""Every function, the session API and every job start from the image's tree alone: 65534, read-only, no shell."""

import json

import pytest
import yaml

from local.layout import CATALOG, Layout, catalog, workloads
from local.stack import function_environment
from tests.image.containers import Container
from tools.image.tree import Image

JOBS = sorted({job["module"] for job in yaml.safe_load(CATALOG.read_text())["jobs"].values()})
PYTHON = "/usr/bin/python3"
LOOK = """
import json, os, pathlib
def refused(path):
    try:
        open(path, "x")
    except OSError as error:
        return error.strerror
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()], "groups": sorted({*os.getgroups()} - {65534}),
    "rights": status["CapEff"].strip(), "no_new": status["NoNewPrivs"].strip(), "environment": sorted(os.environ),
    "refused": [refused(path) for path in ("/x", "/app/x", "/app/lib/x", "/app/common/x", "/tmp/x", "/usr/x")],
    "programs": sorted(os.listdir("/usr/bin")), "top": sorted(os.listdir("/app")),
}))
"""
IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
found = {name: module.__spec__ for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
files = {name: [spec.origin, spec.cached] for name, spec in found.items() if spec.has_location}
print(json.dumps(files))
"""


def environment_of(made: Image, layout: Layout, service: str) -> dict[str, str]:
    """What the platform gives, and the image itself; the secrets' folder is empty."""
    return {**made.environment, **function_environment(layout, service, {}), "SECRETS_DIR": "/secrets"}


def start_of(made: Image, port: int) -> list[str]:
    """ENTRYPOINT and CMD, with another port."""
    words = [word for step in made.final.steps if step.word in ("ENTRYPOINT", "CMD") for word in step.words()]
    assert words.count("8080") == 1
    return [str(port) if word == "8080" else word for word in words]


def test_it_is_sealed(container: Container, made: Image) -> None:
    if not container.seals:
        pytest.skip("this machine lets nobody build a container: the tree is started in the open, by its own Python")
    code, said = container.run([PYTHON, "-c", LOOK], made.environment)

    assert code == 0, said
    seen = json.loads(said)
    assert seen["ids"] == [65534] * 4
    assert not seen["groups"]
    assert int(seen["rights"], 16) == 0
    assert seen["no_new"] == "1"
    assert set(seen["environment"]) <= {*made.environment, "LC_CTYPE"}
    assert seen["refused"] == ["Read-only file system"] * 6
    assert seen["programs"] == ["python", "python3", f"python{made.base.python}"], "no shell, no package manager"
    assert seen["top"] == ["common", "functions", "lib", "migrations", "sessions"]


def test_the_base_is_the_one_of_the_dockerfile(made: Image) -> None:
    if not made.base.name.startswith("the packages of Debian"):
        pytest.skip(f"the base is {made.base.name}")
    assert f"debian{made.base.name.split()[-1]}:" in made.final.base


@pytest.mark.parametrize("service", list(catalog()))
def test_a_function_answers(container: Container, made: Image, layout: Layout, service: str) -> None:
    port = layout.ports[f"function:{service}"]
    with container.serving(start_of(made, port), environment_of(made, layout, service), port) as answer:
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("workload", list(workloads()))
def test_a_workload_answers(container: Container, made: Image, layout: Layout, workload: str) -> None:
    """As its pod starts it: another command, and a /tmp in memory."""
    port = layout.ports[f"{workload}-1"]
    environment = environment_of(made, layout, workload) | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DRAIN_SECONDS": "1",
    }
    with container.serving([PYTHON, "-m", f"{workload}.server"], environment, port, tmp=True) as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize("module", JOBS)
def test_a_job_starts(container: Container, made: Image, module: str) -> None:
    """Without its settings it ends, and what it says is what is missing: all its imports were there."""
    code, said = container.run([PYTHON, "-m", module], made.environment)

    assert code != 0
    assert "ModuleNotFoundError" not in said
    assert "ImportError" not in said
    assert any(word in said for word in ("usage:", "is missing", "is not set", "needs")), said


def test_only_what_the_image_carries_is_imported_and_as_byte_code(container: Container, made: Image) -> None:
    functions = [f"functions.{entry['folder']}.main" for entry in catalog().values()]
    modules = [*functions, *(f"{name}.server" for name in workloads()), *JOBS, "granian.cli", "common.server"]
    code, said = container.run([PYTHON, "-W", "ignore", "-c", IMPORTS, *dict.fromkeys(modules)], made.environment)

    assert code == 0, said
    files = json.loads(said.splitlines()[-1])
    assert {"functions.projects.queries", "granian", "sessions.hub", "migrations.apply"} <= set(files)
    tree, base = ("/app/", "/usr/lib/") if container.seals else (f"{made.app}/", f"{made.base.root}/usr/lib/")
    for name, (origin, cached) in files.items():
        assert origin.startswith((tree, base)), name
        if origin.startswith(tree) and origin.endswith(".py"):
            compiled = made.app / cached.removeprefix(tree)
            assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", f"{name}: by hash, and never checked (PEP 552)"
