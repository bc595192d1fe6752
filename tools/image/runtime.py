"""The base of the image without a registry: the packages that distroless builds it from, unpacked into a folder.

They come from the mirror in this machine's own apt configuration, their signatures checked by Debian's keys. Where that
cannot be had, the same packages of this machine's Debian stand in, whose Python may be an older one: `name` says which.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUITE = {"12": "bookworm", "13": "trixie"}
PYTHON = {"12": "3.11", "13": "3.13"}
# distroless: static, base, cc, python3; without python3-venv, whose pip nobody needs. A version between braces follows.
PACKAGES = (
    *("base-files", "netbase", "tzdata", "media-types", "ca-certificates", "libc6", "libgcc-s1", "libstdc++6"),
    *("libgomp1", "libbz2-1.0", "libexpat1", "liblzma5", "libsqlite3-0", "libuuid1", "libncursesw6", "libtinfo6"),
    *(
        "zlib1g",
        "libzstd1",
        "libcom-err2",
        "libcrypt1",
        "libgssapi-krb5-2",
        "libk5crypto3",
        "libkeyutils1",
        "libkrb5-3",
    ),
    *("libkrb5support0", "libnsl2", "libffi8", "libpython{python}-minimal", "libpython{python}-stdlib"),
    "python{python}-minimal",
)
RENAMED = ("libssl3", "libdb5.3", "libreadline8", "libtirpc3")  # with the suffix t64 from Debian 13 on
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale", "usr/share/bug", "usr/sbin")
NOBODY = "root:x:0:0::/root:/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/sbin/nologin\n"
APT_SECONDS = 120
Fill = Callable[[Path, str], None]


class Unavailable(Exception):
    """This machine can give no such base; the message says why."""


@dataclass(frozen=True)
class Runtime:
    """A root folder with nothing but a bare Python, and where it comes from."""

    root: Path
    name: str
    python: str  # 3.13

    def command(self) -> list[str]:
        """Its Python, started from outside."""
        (loader,) = (self.root / "usr" / "lib64").glob("ld-linux-*")
        libraries = next((self.root / "usr" / "lib").glob("*-linux-gnu"))
        return [str(loader), "--library-path", str(libraries), str(self.root / "usr" / "bin" / f"python{self.python}")]


def packages(release: str) -> list[str]:
    """The names of the packages in a release of Debian."""
    names = [name.format(python=PYTHON[release]) for name in PACKAGES]
    return names + [name + ("t64" if release == "13" else "") for name in RENAMED]


def runtime(build: Path, release: str) -> Runtime:
    """The base of this release under `build`, made once; this machine's own Debian where it cannot be had."""
    try:
        return _made(build / f"runtime-debian{release}", release, _download)
    except Unavailable as error:
        own = _own_release()
        if own is None:
            raise
        machine = _made(build / f"runtime-machine{own}", own, _from_machine)
        return Runtime(machine.root, f"the packages of this machine's Debian {own}, because {error}", machine.python)


def _made(root: Path, release: str, fill: Fill) -> Runtime:
    if not root.exists():
        draft = root.with_name(root.name + f".{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            fill(draft, release)
            _finish(draft, release)
            draft.rename(root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return Runtime(root, f"the packages of Debian {release}", PYTHON[release])


def _own_release() -> str | None:
    release = Path("/etc/os-release")
    text = release.read_text() if release.exists() else ""
    found = re.search(r'^VERSION_ID="(1[23])"$', text, re.MULTILINE)
    return found[1] if found and re.search(r"^ID=debian$", text, re.MULTILINE) and shutil.which("dpkg") else None


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=APT_SECONDS)
        return done.stdout
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise Unavailable(f"{command[0]} says: {said.strip().splitlines()[-1]}") from error


def _mirror() -> str:
    texts = [path.read_text() for path in sorted(Path("/etc/apt").rglob("*sources*")) if path.is_file()]
    found = [
        uri for text in texts for uri in re.findall(r"^(?!#).*?(https?://\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    ]
    if not found or not shutil.which("apt-get"):
        raise Unavailable("this machine has no apt with a mirror of Debian")
    return str(found[0])


def _download(root: Path, release: str) -> None:
    state = root.with_name(root.name + ".apt")
    shutil.rmtree(state, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "debs", "parts"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    key = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    (state / "sources.list").write_text(f"deb [signed-by={key}] {_mirror()} {SUITE[release]} main\n")
    options = {
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::Etc::preferencesparts": state / "parts",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    try:
        _run([*apt, "update"])
        _run([*apt, "download", *packages(release)], state / "debs")
        for package in sorted((state / "debs").glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(root)])
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _from_machine(root: Path, release: str) -> None:
    for package in packages(release):
        for name in _run(["dpkg", "-L", package]).splitlines():
            source, target = Path(name), root / name.lstrip("/")
            if source.is_dir() and not source.is_symlink():
                continue
            where = root / str(source.parent.resolve()).lstrip("/")
            where.mkdir(parents=True, exist_ok=True)
            if (source.is_file() or source.is_symlink()) and not (where / target.name).exists():
                shutil.copy2(source, where / target.name, follow_symlinks=False)


def _finish(root: Path, release: str) -> None:
    """What distroless adds to the packages: the merged /usr, names for Python, users, certificates, an empty /tmp."""
    for name in ("lib", "lib64", "bin", "sbin"):
        _merge(root, name)
    loader = next((root / "usr" / "lib").glob("*-linux-gnu/ld-linux-*"), None)
    if loader is not None and not any((root / "usr" / "lib64").glob("ld-linux-*")):
        (root / "usr" / "lib64" / loader.name).symlink_to(f"../lib/{loader.parent.name}/{loader.name}")
    for name in UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    programs = root / "usr" / "bin"
    for path in [path for path in programs.iterdir() if path.name != f"python{PYTHON[release]}"]:
        path.unlink()
    for name in ("python", "python3"):
        (programs / name).symlink_to(f"python{PYTHON[release]}")
    certificates = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    known = sorted((root / "usr" / "share" / "ca-certificates").rglob("*.crt"))
    certificates.write_text("".join(path.read_text() for path in known))
    (root / "etc" / "passwd").write_text(NOBODY)
    (root / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for name in ("tmp", "app", "proc", "dev", "secrets", "workspace"):
        (root / name).mkdir(exist_ok=True)


def _merge(root: Path, name: str) -> None:
    top = root / name
    (root / "usr" / name).mkdir(parents=True, exist_ok=True)
    if top.is_dir() and not top.is_symlink():
        shutil.copytree(top, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(top)
    if not top.is_symlink():
        top.symlink_to(f"usr/{name}")
