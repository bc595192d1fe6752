"""A PostgreSQL of the system for a peer whose own state needs an extension that the stack's build does not bring."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import processes
from local.postgres_home import ELSEWHERE, Owner, environment

SYSTEM = Path("/usr/lib/postgresql")
SHARED = Path("/usr/share/postgresql")


def programs(extension: str, system: Path = SYSTEM, shared: Path = SHARED) -> Path | None:
    """The folder of the newest one's programs that has the extension, None without any."""
    found = [
        path
        for path in system.glob("*/bin")
        if (shared / path.parts[-2] / "extension" / f"{extension}.control").exists()
    ]
    return max(found, key=lambda path: int(path.parts[-2]), default=None)


@contextmanager
def server(folder: Path, port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A new cluster that trusts everybody on loopback; gone afterwards. `folder` is where the programs are."""
    owner = Owner.choose()
    with tempfile.TemporaryDirectory(prefix="dev-context-spare-", dir=ELSEWHERE) as made:
        data = owner.own(Path(made)) / "data"
        done = owner.run(str(folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        if done.returncode:
            raise SystemExit(f"no spare cluster: {done.stderr.strip()}")
        settings = (f"-cport={port}", f"-cunix_socket_directories={made}", "-clisten_addresses=127.0.0.1")
        command = [str(folder / "postgres"), "-D", str(data), *settings]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                user=owner.uid if owner.is_other else None,
                group=owner.gid if owner.is_other else None,
                extra_groups=[] if owner.is_other else None,
                env=environment(),
                cwd="/",
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            processes.stop(process)
