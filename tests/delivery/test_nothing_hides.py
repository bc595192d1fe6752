"""What would make a check pass that has not: each way that a line of a pipeline, a workflow or make can look away."""

import datetime
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.structure.sources import in_git, read
from tools.delivery import audit
from tools.delivery.pipelines import PIPELINES, WORKFLOWS, Step, shell, steps
from tools.delivery.pipelines import read as parsed

BUILD, STAGING, PROMOTION, PRODUCTION = PIPELINES
SCRIPTS = list(shell())
HIDES = {  # what hides the end of a command
    "or": re.compile(r"\|\|"),
    "unset": re.compile(r"\bset \+"),
    "success": re.compile(r"\bexit 0\b|\btrue\b|(?:^|;)\s*:\s*(?:$|;)", re.MULTILINE),
    "background": re.compile(r"(?<![&<>])&(?![&>1])"),
    "negation": re.compile(r"^\s*!", re.MULTILINE),
}
MAY = {
    ("delivery/staging.yaml, ask", "success"),  # without a production nobody is asked
    (".ci/browser", "or"),  # a browser may be there already, or nowhere: tests without one say so
    (".ci/browser", "success"),
}
PIPES = {"cloudbuild.yaml, bases"}  # its loop is the end of the pipe
GATE = (
    "image",
    "--exit-code=1",
    "--severity=HIGH,CRITICAL",
    "--scanners=vuln,secret",
    "--ignorefile=.trivyignore.yaml",
    "--no-progress",
)
ZAP = "10010 10011 10020 10021 10023 10024 10035 10037 10038 10040 10054 10055 10062 10098 90022"
WORKFLOW_FILES = sorted(str(path) for path in in_git() if path.parent.as_posix() == WORKFLOWS)
JOBS = [(path, name, job) for path in WORKFLOW_FILES for name, job in parsed(path)["jobs"].items()]
NAMED = [f"{Path(path).stem}-{name}" for path, name, _ in JOBS]


def named(path: str) -> dict[str, Step]:
    return {step.id: step for step in steps(path)}


@pytest.mark.parametrize(("where", "script"), SCRIPTS, ids=[where for where, _ in SCRIPTS])
def test_no_line_of_shell_hides_the_end_of_a_command(where: str, script: str) -> None:
    text = re.sub(r"#.*", "", script)
    assert [name for name, way in HIDES.items() if way.search(text) and (where, name) not in MAY] == []
    piped = re.search(r"(?<!\|)\|(?!\|)", re.sub(r"'[^']*'", "", text))
    assert not piped or "pipefail" in script or where in PIPES
    assert re.search(r"^set -eu?o? ?(?:pipefail)?$", script, re.MULTILINE), "it goes on after a failure"


@pytest.mark.parametrize(("step", "command"), {"lint": "make lint", "test": "make unlinted"}.items())
def test_a_step_that_checks_runs_its_command_to_the_end(step: str, command: str) -> None:
    script = named(BUILD)[step].script.splitlines()
    assert script[2:] == ["git config --global --add safe.directory /workspace", command]


def test_steps_without_shell_run_what_they_are_called() -> None:
    found = named(BUILD)
    assert [found[name].args for name in ("audit", "sbom")] == [("make", "audit"), ("make", "sbom")]


@pytest.mark.parametrize(("path", "last"), [(BUILD, "--input=/workspace/image.tar"), (PROMOTION, "$_IMAGE")])
def test_the_gate_is_asked_so_and_not_otherwise(path: str, last: str) -> None:
    assert named(path)["gate"].args == (*GATE, last)


def test_the_gate_of_github_is_asked_so_too() -> None:
    (line,) = [each["run"] for each in parsed(WORKFLOW_FILES[1])["jobs"]["image"]["steps"] if "$trivy" in str(each)]
    words = shlex.split(line.replace("\\\n", " "), posix=True)
    asked = words[words.index("image") :]
    assert asked == [*GATE, "--format=sarif", "--output=trivy.sarif", "dev-context:scan"]


def test_an_exception_from_the_gate_is_one_weakness_for_ninety_days_at_most() -> None:
    """Never a path or a package: what is not named is looked at."""
    found = parsed(".trivyignore.yaml")
    assert set(found) == {"vulnerabilities", "secrets"}
    latest = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=90)
    for each in (*found["vulnerabilities"], *found["secrets"]):
        assert set(each) == {"id", "statement", "expired_at"}
        assert datetime.date.fromisoformat(str(each["expired_at"])) <= latest


def test_only_three_steps_write_into_a_registry() -> None:
    writes = re.compile(r"docker (?:\w+ )*push|crane (?:append|copy|push|tag|mutate)")
    found = {(path, step.id) for path in PIPELINES for step in steps(path) if writes.search(step.script)}
    assert found == {(BUILD, "push"), (BUILD, "bill"), (PROMOTION, "copy")}
    for path in PIPELINES:
        assert not {"images", "artifacts", "secrets", "availableSecrets"} & set(parsed(path))


@pytest.mark.parametrize(("path", "pause"), [(STAGING, 60), (PRODUCTION, 300)])
def test_a_release_watches_and_asks_the_front_door(path: str, pause: int) -> None:
    line = re.search(r"\.venv/bin/python -m tools\.release (.*)$", named(path)["release"].script, re.MULTILINE)
    assert line
    assert line[1] == f'--project "$PROJECT" --region "$REGION" --wait 3600 --pause {pause} --url "$URL" "$IMAGE"'
    environment = Path(path).stem
    assert named(path)["look"].script.splitlines()[-1] == f'make preflight ENV={environment} ARGS="--url $URL"'


def test_scanners_of_staging_are_asked_for_all_that_is_promised() -> None:
    found = named(STAGING)
    assert found["zap"].args[3:] == ("-c", "zap.conf", "-I", "-J", "zap.json")
    about = {each.split("=")[0]: each.partition("=")[2] for each in found["nuclei"].args}
    assert about.pop("-templates").count("http/") == 4
    assert about.pop("-severity") == "medium,high,critical"
    assert int(about.pop("-rate-limit")) <= 15, "Cloud Armor lets through 1000 a minute"
    assert set(about) == {"-target", "-output", "-no-interactsh", "-no-mhe", "-no-color"}


def test_what_fails_for_zap_is_what_is_promised() -> None:
    lines = [line.split("\t")[:2] for line in read("delivery/zap.conf").splitlines() if not line.startswith("#")]
    assert {number for number, level in lines if level == "FAIL"} == set(ZAP.split())
    assert [number for number, level in lines if level != "FAIL"] == ["10202"]


def test_a_build_has_the_time_for_its_steps() -> None:
    for path in PIPELINES:
        document = parsed(path)
        longest = [int(each.get("timeout", "0s").removesuffix("s")) for each in document["steps"]]
        assert int(document["timeout"].removesuffix("s")) >= max(1800, sum(longest) + 1500 * any(longest))


@pytest.mark.parametrize("path", PIPELINES)
def test_a_pipeline_has_no_option_that_forgives(path: str) -> None:
    """A substitution that nobody gives is an error, a step that nobody waits for is waited for."""
    document = parsed(path)
    assert set(document) <= {"steps", "timeout", "options", "substitutions", "tags"}
    assert set(document["options"]) <= {"machineType", "logging", "dynamicSubstitutions"}
    for each in document["steps"]:
        assert set(each) <= {"id", "name", "waitFor", "args", "script", "env", "timeout", "volumes"}


# GitHub


@pytest.mark.parametrize("path", WORKFLOW_FILES)
def test_a_workflow_looks_at_every_change(path: str) -> None:
    events: dict[str, Any] = parsed(path)[True]  # type: ignore[index] # YAML reads the key `on` as true
    assert {name: about for name, about in events.items() if name != "schedule"} == {
        "pull_request": None,
        "push": {"branches": ["main"]},
    }


@pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=NAMED)
def test_a_job_is_neither_left_out_nor_forgiven(path: str, name: str, job: dict[str, Any]) -> None:
    assert set(job) == {"name", "runs-on", "timeout-minutes", "permissions", "steps"}
    assert job["runs-on"] == "ubuntu-24.04", "a machine of our own would run what strangers write"
    for each in job["steps"]:
        assert not {"continue-on-error", "shell", "env", "working-directory"} & set(each)
        assert not each.get("if") or each["if"] in {
            "${{ failure() }}",
            "${{ !cancelled() && github.event_name != 'pull_request' }}",
        }


def test_jobs_run_the_checks_themselves() -> None:
    found = {
        f"{Path(path).stem} {name}": [each["run"] for each in job["steps"] if "run" in each] for path, name, job in JOBS
    }
    assert found["checks checks"][-1] == ".ci/run"
    assert found["security-scan dependencies"] == ["make audit"]
    assert found["security-scan code"][-1] == "make lint"
    codeql = parsed(WORKFLOW_FILES[1])["jobs"]["codeql"]["steps"]
    assert [each["with"] for each in codeql if "codeql-action/init" in each["uses"]] == [
        {"languages": "python", "queries": "security-extended"}
    ]
    assert read(".ci/run").splitlines()[1::3] == ["set -euo pipefail", ".ci/browser"]
    assert read(".ci/run").splitlines()[-1] == "make test"


def test_a_commit_stands_for_one_repository_of_actions_in_one_version() -> None:
    text = "".join(map(read, WORKFLOW_FILES))
    used = {
        (action[1], action[2], action[3]) for action in re.finditer(r"uses: ([\w-]+/[\w-]+)\S*@(\w+) # (\S+)", text)
    }
    assert len({commit for _, commit, _ in used}) == len({repository for repository, _, _ in used}) == len(used) > 2


def test_dependabot_leaves_nothing_out() -> None:
    for each in parsed(".github/dependabot.yml")["updates"]:
        assert not {"ignore", "allow", "target-branch", "exclude-paths"} & set(each)
        assert each.get("open-pull-requests-limit", 5) >= 5


# make, and the settings of its checks


def test_no_recipe_of_a_check_forgives() -> None:
    makefile = read("Makefile")
    recipes = dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))
    for name in ("unlinted", "lint", "lint-code", "lint-terraform", "lint-delivery", "audit", "sbom"):
        lines = recipes[name].splitlines()
        assert [line for line in lines if re.search(r"^\t@?-|\|\||; *true|exit-zero", line)] == [], name
    assert ".IGNORE" not in makefile
    assert (
        "bandit --quiet --configfile pyproject.toml --recursive common functions sessions migrations local tools\n"
        in (recipes["lint-code"])
    )


def test_hadolint_looks_at_style_and_forgives_one_rule() -> None:
    assert parsed(".hadolint.yaml") == {"failure-threshold": "style", "ignored": ["DL3059"]}
    ignored = [
        line for path in ("Dockerfile", "delivery/Dockerfile") for line in read(path).splitlines() if "ignore=" in line
    ]
    assert ignored == ["# hadolint ignore=DL3008"] * 2, "versions of Debian's packages, which a base brings"


def test_an_audit_is_strict_and_forgives_nothing() -> None:
    assert {"--strict", "--require-hashes", "--disable-pip"} <= set(audit.OPTIONS)
    assert not [option for option in audit.OPTIONS if "ignore" in option or "skip" in option]
