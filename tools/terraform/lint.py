"""What `make lint` asks of terraform/: all of it where Terraform is installed, else a part, and which part it says.

The checker, `terraform fmt`, `validate` and `plan` of staging, production and the foundation, and checkov.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tools.terraform import checkov
from tools.terraform.check import in_folder
from tools.terraform.kept import NoPlan, forget_others, kept
from tools.terraform.plan import CHECKOUT, Failed, binary, plan, running

PLANNED = ("staging", "production", "foundation")
SCANNED = ("staging", "production")
WITHOUT = """terraform is not installed. NOT checked: the files' form (terraform fmt), validate, the plans of
staging, production and the foundation, checkov, and the tests that read a plan. Checked: types, arguments, references,
variables and grants (python -m tools.terraform.check)."""


def checked() -> Iterator[str]:
    """The checker's findings."""
    yield from (str(finding) for finding in in_folder(CHECKOUT / "terraform"))


def formatted() -> Iterator[str]:
    """Files that `terraform fmt` would write anew."""
    command = [binary() or "terraform", "fmt", "-check", "-recursive", "-list=true", "terraform"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"terraform fmt: {done.stdout or done.stderr}"


def planned() -> Iterator[str]:
    """What Terraform itself refuses, with everything unknown that only an apply can know."""
    try:
        with running(CHECKOUT, resolved=False) as run:
            run("validate", "-no-color")
            for name in PLANNED:
                plan(run, name)
    except Failed as failure:
        yield str(failure)


def scanned() -> Iterator[str]:
    """What checkov finds and skips.yaml does not name."""
    if not checkov.PROGRAM.exists():
        yield "checkov is not installed: make lint installs it"
        return
    try:
        forget_others()
        found, crashed = checkov.run([kept(name) for name in SCANNED])
    except NoPlan as refused:
        yield str(refused)
        return
    yield from (f"checkov: {message}" for message in checkov.compare(found, crashed, checkov.skips()))


def main() -> int:
    steps: list[Callable[[], Iterator[str]]] = [checked]
    if binary():
        steps += [formatted, planned, scanned]
    else:
        print(WITHOUT)
    with ThreadPoolExecutor(2) as pool:
        said = [line for lines in pool.map(lambda step: list(step()), steps) for line in lines]
    for line in said:
        print(line)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
