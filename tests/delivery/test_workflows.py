"""GitHub's workflows, Dependabot and SonarQube: what they may, what they run, and that they look at everything."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.structure.sources import CHECKOUT, PEERS, in_git, read
from tools.delivery.pipelines import WORKFLOWS, images
from tools.delivery.pipelines import read as parsed

FILES = sorted(path for path in in_git() if path.parent.as_posix() == WORKFLOWS)
JOBS = [(path, name, job) for path in FILES for name, job in parsed(str(path))["jobs"].items()]
NAMED = [f"{path.stem}-{name}" for path, name, _ in JOBS]
EVENTS = {"pull_request", "push", "schedule"}  # never pull_request_target, which lends a stranger's code our rights
MAY = {"contents": "read", "security-events": "write"}
SCANNED = {  # what lies where, and the ecosystem of Dependabot that renews it
    "requirements.in": "pip",
    "requirements-checkov.in": "pip",
    "Dockerfile": "docker",
    "versions.tf": "terraform",
    "package.json": "npm",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_begins_without_rights(path: Path) -> None:
    document: dict[Any, Any] = parsed(str(path))
    assert document["permissions"] == {}
    assert set(document[True]) <= EVENTS, "YAML reads the key `on` as true"


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=NAMED)
def test_a_job_may_read_and_at_most_tell_its_findings(path: Path, name: str, job: dict[str, Any]) -> None:
    assert job["permissions"]["contents"] == "read"
    assert set(job["permissions"].items()) <= set(MAY.items())
    assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=NAMED)
def test_an_action_is_a_commit_with_its_version_beside_it(path: Path, name: str, job: dict[str, Any]) -> None:
    text = read(path)
    for each in job["steps"]:
        if "uses" in each:
            assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", each["uses"])
            assert re.search(rf"{re.escape(each['uses'])} # v\d+\.\d+\.\d+$", text, re.MULTILINE)
        if each.get("uses", "").startswith("actions/checkout@"):
            assert each["with"]["persist-credentials"] is False


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=NAMED)
def test_what_a_job_runs_exists(path: Path, name: str, job: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    lines = "\n".join(each.get("run", "") for each in job["steps"])
    assert set(re.findall(r"^make ([a-z-]+)", lines, re.MULTILINE)) <= targets
    assert [
        file for file in re.findall(r"(?<!\S)(\.ci/\w+|delivery/\w+)", lines) if not (CHECKOUT / file).exists()
    ] == []
    asked = set(re.findall(r"AS (\w+)\$", lines))
    assert asked <= set(images()), "an image that delivery/Dockerfile does not have"


def test_every_morning_somebody_looks() -> None:
    scan: dict[Any, Any] = parsed(f"{WORKFLOWS}/security-scan.yml")
    (cron,) = [each["cron"] for each in scan[True]["schedule"]]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron)
    assert set(scan["jobs"]) == {"dependencies", "code", "codeql", "image"}


def test_the_gate_of_a_pull_request_is_the_gate_of_the_pipeline() -> None:
    step = next(each for each in parsed("cloudbuild.yaml")["steps"] if each["id"] == "gate")
    (run,) = [each["run"] for each in parsed(f"{WORKFLOWS}/security-scan.yml")["jobs"]["image"]["steps"][2:3]]
    assert [arg for arg in step["args"][:-1] if arg not in run] == []


def test_dependabot_looks_every_day_at_everything_that_grows_old() -> None:
    updates = parsed(".github/dependabot.yml")["updates"]
    looked = {(each["package-ecosystem"], folder) for each in updates for folder in _folders(each)}
    lying = {
        (SCANNED[path.name], "/" + ("" if path.parent == Path() else path.parent.as_posix()))
        for path in in_git()
        if path.name in SCANNED and not str(path).startswith(PEERS)
    }
    assert looked == lying | {("github-actions", "/")}
    assert {each["schedule"]["interval"] for each in updates} == {"daily"}
    assert all(each["cooldown"]["default-days"] >= 7 for each in updates)


def _folders(update: dict[str, Any]) -> list[str]:
    return update.get("directories") or [update["directory"]]


def test_sonarqube_reads_folders_that_exist_and_reports_that_are_made() -> None:
    lines = [line for line in read("sonar-project.properties").splitlines() if line and not line.startswith("#")]
    properties = dict(line.split("=", 1) for line in lines)
    sources, tests = (properties[f"sonar.{name}"].split(",") for name in ("sources", "tests"))
    assert [name for name in (*sources, *tests) if not (CHECKOUT / name).exists()] == []
    assert not set(sources) & set(tests)
    code = {path.parts[0] for path in in_git() if path.suffix == ".py"}
    assert code == {name for name in (*sources, *tests) if name in code}, "no Python is left out"
    made = re.findall(r"^(?:reports|coverage):.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert len(made) == 2
    reports = [value for name, value in properties.items() if name.endswith(".reportPaths")]
    assert reports
    assert [path for path in reports if path not in "".join(made)] == []
