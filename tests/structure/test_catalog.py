"""functions/catalog.yaml is right; and what is wrong in an entry is told in its own words."""

import subprocess
import sys

import pytest

from local.entries import problems
from local.layout import CATALOG
from tests.structure.sources import CHECKOUT

TEXT = CATALOG.read_text()
FAULTS = {  # in the entry of projects
    "projects is missing its colon": ("\n  projects:\n", "\n  projects\n"),
    "projects stands twice": ("\n  audit:\n", "\n  projects:\n"),
    "a name has 3 to 25": ("\n  projects:\n", "\n  projects-of-all-the-members:\n"),
    "another account has this name": ("\n  projects:\n", "\n  sessions:\n"),
    "queus is no field": ("    folder: projects\n", "    folder: projects\n    queus: [jobs]\n"),
    "entry is missing": ("    entry: projects\n", ""),
    "entry must be projects": ("    entry: projects\n", "    entry: project\n"),
    "role must be projects_fn": ("role: projects_fn", "role: Projects-fn"),
    "there is no functions/project/main.py": ("    folder: projects\n", "    folder: project\n"),
    "/v1/members stands under two services": ("paths: [/v1/projects, ", "paths: [/v1/projects, /v1/members, "),
    "v1/tasks does not begin with /": ("/v1/projects, /v1/tasks", "/v1/projects, v1/tasks"),
    "cursor-kee is none of the secrets": ("cursor-key, edge-key]", "cursor-kee, edge-key]"),
    "gatewy is none of the invokers": ("invokers: [gateway]", "invokers: [gatewy]"),
    "ingress is all or internal": ("ingress: all", "ingress: everybody"),
    "letters is none of the queues": ("    folder: projects\n", "    folder: projects\n    queues: [letters]\n"),
    "attic is none of the buckets": ("    folder: projects\n", "    folder: projects\n    buckets: {attic: [read]}\n"),
    "own is no right": ("    folder: projects\n", "    folder: projects\n    buckets: {exports: [own]}\n"),
    "x is none of the kinds": ("kinds: [u, k]", "kinds: [u, x]"),
}


def test_it_is_right() -> None:
    assert problems() == []


@pytest.mark.parametrize("told", FAULTS)
def test_what_is_wrong_is_told(told: str) -> None:
    before, after = FAULTS[told]
    start = TEXT.index("\n  audit:\n" if "audit" in before else "\n  projects:\n")
    changed = TEXT[:start] + TEXT[start:].replace(before, after, 1)
    assert changed != TEXT
    found = problems(changed)
    assert found
    if told != "projects is missing its colon":
        assert any(told in each for each in found), found


def test_the_command_that_writes_the_documents_says_it() -> None:
    program = "from local.openapi import files; files.problems = lambda: ['projects: x is wrong']; files.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "projects: x is wrong\n")
