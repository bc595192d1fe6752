"""Start a command as a container would: `python sealed.py ROOT FOLDER=PLACE … [--tmp] -- COMMAND`, by root or nobody.

The root is the base with the folders laid over it, all read-only; the user is 65534 without any right; the environment
is what stands in the standard input, one NAME=value a line. Whoever is not root does it in a user namespace; where
that is forbidden too, it says so and ends with 77. Standard library and Linux only.
"""

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
FORBIDDEN = 77
NEW_USER, NEW_MOUNT = 0x10000000, 0x00020000
READ_ONLY, NO_SUID, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
NO_NEW_PRIVILEGES = 38
DEVICES = ("null", "zero", "full", "random", "urandom")
libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    texts = [text.encode() for text in (source, str(target), kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), data.encode())


def _enter() -> None:
    """A mount namespace of our own, and a user namespace in which we are nobody, unless we are root outside."""
    user, group = os.getuid(), os.getgid()
    if user == 0:
        _call("unshare", NEW_MOUNT)
        return
    _call("unshare", NEW_USER | NEW_MOUNT)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def _bind(source: str, target: Path, *, writable: bool = False) -> None:
    _mount(source, target, "", BIND | RECURSIVE)
    if not writable:
        _mount("", target, "", BIND | REMOUNT | READ_ONLY | NO_SUID)


def seal(root: Path, places: dict[str, str], *, tmp: bool) -> None:
    """Become nobody in `root` with each folder at its place, read-only. Raises OSError where the kernel forbids it."""
    _enter()
    _mount("", Path("/"), "", RECURSIVE | PRIVATE)
    _bind(str(root), root)
    for place, folder in places.items():
        _bind(folder, root / place.lstrip("/"))
    _mount("/proc", root / "proc", "", BIND | RECURSIVE)
    _mount("tmpfs", root / "dev", "tmpfs", NO_SUID, "mode=755")
    for name in DEVICES:
        (root / "dev" / name).touch()
        _bind(f"/dev/{name}", root / "dev" / name, writable=True)
    (root / "dev" / "shm").mkdir()
    _mount("tmpfs", root / "dev" / "shm", "tmpfs", NO_SUID, "mode=1777")
    _mount("", root / "dev", "", BIND | REMOUNT | READ_ONLY | NO_SUID)
    if tmp:
        _mount("tmpfs", root / "tmp", "tmpfs", NO_SUID, "mode=1777,size=64m")
    os.chroot(root)
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def main() -> None:
    """Seal, and become the command."""
    end = sys.argv.index("--")
    root, *given = (word for word in sys.argv[1:end] if word != "--tmp")
    environment = dict(line.split("=", 1) for line in sys.stdin.read().splitlines())
    try:
        seal(
            Path(root),
            {place: folder for folder, _, place in (pair.partition("=") for pair in given)},
            tmp="--tmp" in sys.argv,
        )
    except PermissionError as error:
        sys.stderr.write(f"this machine lets nobody build a container: {error}\n")
        sys.exit(FORBIDDEN)
    os.chdir("/")
    os.execve(sys.argv[end + 1], sys.argv[end + 1 :], environment)  # noqa: S606 - a command of whoever started us


if __name__ == "__main__":
    main()
