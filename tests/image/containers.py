"""Commands in the image's tree as a container runs them, and their health."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import requests

from local.processes import die_with_parent
from tools.image import sealed
from tools.image.tree import Image

READY_SECONDS = 40


@dataclass
class Container:
    """A base with folders laid over it. Sealed where this machine allows it: root read-only, user 65534, no right."""

    image: Image
    places: Mapping[str, Path]  # place in the root → folder

    @cached_property
    def seals(self) -> bool:
        """Whether this machine lets us build a container."""
        probe = self._sealed(["/usr/bin/python3", "-c", ""], tmp=False)
        done = subprocess.run(probe, input="", capture_output=True, text=True)
        assert done.returncode in (0, sealed.FORBIDDEN), done.stderr
        return done.returncode == 0

    def _sealed(self, command: Sequence[str], *, tmp: bool) -> list[str]:
        laid = [f"{folder}={place}" for place, folder in self.places.items()]
        start = [sys.executable, sealed.__file__, str(self.image.base.root), *laid]
        return [*start, *(["--tmp"] if tmp else []), "--", *command]

    def _unsealed(self, text: str) -> str:
        """A word with the folders themselves where it names their places, alone or in a list with colons."""

        def there(part: str) -> str:
            for place, folder in self.places.items():
                if (part + "/").startswith(place + "/"):
                    return f"{folder}{part.removeprefix(place)}"
            return part

        return ":".join(there(part) for part in text.split(":"))

    def popen(self, command: Sequence[str], environment: Mapping[str, str], *, tmp: bool = False) -> subprocess.Popen:
        """Start a command. Where nothing can be sealed: the base's own Python, as nobody if that can be."""
        text = "".join(f"{name}={value}\n" for name, value in environment.items())
        options: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        if self.seals:
            process = subprocess.Popen(self._sealed(command, tmp=tmp), preexec_fn=die_with_parent(), **options)
        else:
            given = {name: self._unsealed(value) for name, value in environment.items()}
            given |= {"PYTHONHOME": str(self.image.base.root / "usr")}
            words = [*self.image.base.command(), *map(self._unsealed, command[1:])]
            folders = [self.image.base.root, *self.places.values()]
            reachable = all(parent.stat().st_mode & 0o1 for folder in folders for parent in (folder, *folder.parents))
            options |= {"user": sealed.NOBODY, "group": sealed.NOBODY} if os.getuid() == 0 and reachable else {}
            process = subprocess.Popen(words, env=given, cwd="/", **options)
        assert process.stdin
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and output of a command that ends."""
        process = self.popen(command, environment)
        said, _ = process.communicate(timeout=READY_SECONDS)
        return process.returncode, said

    @contextmanager
    def serving(
        self, command: Sequence[str], environment: Mapping[str, str], port: int, *, tmp: bool = False
    ) -> Iterator[requests.Response]:
        """The first answer of GET /health/ from a server, which is ended well afterwards."""
        process = self.popen(command, environment, tmp=tmp)
        try:
            yield first_answer(port, process)
        finally:
            process.terminate()
            process.communicate(timeout=READY_SECONDS)


def first_answer(port: int, process: subprocess.Popen) -> requests.Response:
    deadline = time.monotonic() + READY_SECONDS
    with requests.Session() as session:
        session.trust_env = False
        while True:
            try:
                return session.get(f"http://127.0.0.1:{port}/health/", timeout=5)
            except requests.ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    pytest.fail("it does not serve:\n" + process.communicate()[0][-3000:])
                time.sleep(0.05)


def fingerprint(folder: Path) -> str:
    """A digest of every name, size and time below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns} {found.st_mode}\n".encode())
    return digest.hexdigest()
