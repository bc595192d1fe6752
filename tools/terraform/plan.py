"""Plan an environment with a real Terraform and a provider that is none: no network, no account, no state.

`python -m tools.terraform.plan production` prints what would be made; `--json FILE` writes the plan for tests and
checkov. `foundation` is production before its first image. `--var NAME=JSON` changes a variable.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.terraform import protocol, schema
from tools.terraform.provider import Provider

CHECKOUT = Path(__file__).parent.parent.parent
FOUNDATION: dict[str, Any] = {"image": None, "session_endpoint_zones": []}  # of an environment that has no image yet
HOST = "registry.terraform.io/" + "hashicorp"


class Failed(Exception):
    """Terraform refused; its own words."""


@dataclass(frozen=True)
class Run:
    """A copy of terraform/ that Terraform can work in, and the environment of its process."""

    terraform: str
    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str) -> str:
        """Standard output of a command; Failed when it fails."""
        command = [self.terraform, f"-chdir={self.folder}", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"terraform {arguments[0]}\n{done.stderr or done.stdout}")
        return done.stdout


def binary() -> str | None:
    """Where terraform is, if it is there."""
    return shutil.which("terraform")


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of root/terraform whose state is local, with everything else of root beside it."""
    with tempfile.TemporaryDirectory(prefix="dev-context-plan-") as temporary:
        folder = Path(temporary) / "terraform"
        shutil.copytree(root / "terraform", folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        for beside in root.iterdir():
            if beside.name != "terraform" and not beside.name.startswith("."):
                (Path(temporary) / beside.name).symlink_to(beside.resolve())
        yield folder


def read_early(folder: Path) -> None:
    """Take from data sources what they depend on: Terraform would read them at the apply only."""
    for path in folder.glob("*.tf"):
        blocks = re.split(r"^(?=\S)", path.read_text(), flags=re.MULTILINE)
        early = (re.sub(r"^  depends_on += \[.*?\]$", "", block, flags=re.MULTILINE | re.DOTALL) for block in blocks)
        path.write_text(
            "".join(new if old.startswith("data ") else old for old, new in zip(blocks, early, strict=True))
        )


@contextmanager
def running(root: Path, *, resolved: bool) -> Iterator[Run]:
    """Terraform, initialized, with providers that it need not download."""
    terraform = binary()
    if terraform is None:
        raise Failed("terraform is not on PATH")
    with copied(root) as folder, reattached(folder, resolved=resolved) as providers:
        if resolved:
            read_early(folder)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder.parent),
            "CHECKPOINT_DISABLE": "1",
            "GOGC": "400",  # else half of the time goes into collecting garbage; it takes 550 MB so
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_DATA_DIR": str(folder.parent / ".data"),
            "TF_IN_AUTOMATION": "1",
            "TF_REATTACH_PROVIDERS": json.dumps(providers),
        }
        run = Run(terraform, folder, environment)
        run("init", "-input=false", "-no-color")
        yield run


@contextmanager
def reattached(folder: Path, *, resolved: bool) -> Iterator[dict[str, Any]]:
    """Serve every provider for the types that the folder names; what TF_REATTACH_PROVIDERS says of them."""
    used = set(re.findall(r'"([a-z0-9]+_\w+)"', "\n".join(path.read_text() for path in folder.glob("*.tf"))))
    idle = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # ends with us, whatever becomes of us
    with subprocess.Popen(idle, stdin=subprocess.PIPE) as bystander:  # Terraform may kill what it takes for a provider
        servers, providers = [], {}
        for name, of_provider in schema.load().items():
            server, port = protocol.serve(Provider(of_provider, used, resolved=resolved).methods())
            servers.append(server)
            providers[f"{HOST}/{name}"] = {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": bystander.pid,
                "Test": True,
                "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
            }
        try:
            yield providers
        finally:
            for server in servers:
                server.stop(None)
            bystander.kill()


def plan(run: Run, name: str, changes: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """What Terraform says of an environment, and its plan as `terraform show -json` gives it."""
    environment = "production" if name == "foundation" else name
    changed = {**(FOUNDATION if name == "foundation" else {}), **(changes or {})}
    file = run.folder.parent / f"{name}.tfvars.json"
    file.write_text(json.dumps(changed))
    arguments = [f"-var-file=env/{environment}.tfvars", f"-var-file={file}"]
    said = run("plan", "-input=false", "-no-color", "-lock=false", *arguments, f"-out={run.folder.parent / name}")
    return said, json.loads(run("show", "-json", str(run.folder.parent / name)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="staging, production or foundation")
    parser.add_argument("--root", type=Path, default=CHECKOUT, help="the folder that terraform/ is in")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--resolved", action="store_true", help="make up what only an apply can know")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan here and say nothing")
    options = parser.parse_args()
    changes = {name: json.loads(value) for name, _, value in (text.partition("=") for text in options.var)}
    try:
        with running(options.root, resolved=options.resolved) as run:
            said, planned = plan(run, options.environment, changes)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(planned))
    else:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
