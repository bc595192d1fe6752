"""`make image-tree`: build/image as the Dockerfile makes /app, by its own lines, with the base's own Python."""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pip

from tools.image.dockerfile import Dockerfile, Stage, Step, context, read
from tools.image.runtime import Runtime, Unavailable, runtime

CHECKOUT = Path(__file__).parent.parent.parent
BUILD = CHECKOUT / "build"
NOT_HERE = "apt-get "  # brings the builder its pip; here it is the pip of the virtual environment


@dataclass(frozen=True)
class Image:
    """What the image holds beside its base, and the Dockerfile that says how it is started."""

    app: Path
    base: Runtime
    dockerfile: Dockerfile

    @property
    def final(self) -> Stage:
        """The stage that becomes the image."""
        return self.dockerfile.stages[-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV says, where no build argument was given."""
        given = dict(line.split("=", 1) for line in self.final.of("ARG"))
        lines = [Template(line).safe_substitute(given) for line in self.final.of("ENV")]
        return dict(pair.split("=", 1) for line in lines for pair in line.split())


def image(checkout: Path = CHECKOUT, build: Path = BUILD) -> Image:
    """The file tree of the image at `build`/image; what has not changed is taken from the last time.

    Raises Unavailable where there is no base, CalledProcessError when a line of the Dockerfile fails.
    """
    build.mkdir(exist_ok=True)
    with (build / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _image(checkout, build)


def _image(checkout: Path, build: Path) -> Image:
    dockerfile = read((checkout / "Dockerfile").read_text())
    base = runtime(build, dockerfile.stages[-1].base.split("-debian")[1].split(":")[0])
    builder = dockerfile.stages[0]
    if [step.rest for step in dockerfile.stages[-1].steps if step.word == "COPY"] != ["--from=builder /app /app"]:
        raise ValueError("the last stage copies something else than the builder's /app")
    work = _Work(checkout, build / "layers", base)
    for step, following in zip(builder.steps, [*builder.steps[1:], None], strict=True):
        work.do(step, ends=following is None or following.word != "RUN")
    return Image(work.finish(build / "image"), base, dockerfile)


class _Work:
    """The steps of the builder, each kept in a folder named by everything that led to it, as Docker caches layers."""

    def __init__(self, checkout: Path, layers: Path, base: Runtime) -> None:
        self.checkout, self.layers, self.base = checkout, layers, base
        self.files = list(context(checkout))
        self.key = hashlib.sha256(base.name.encode() + sys.implementation.cache_tag.encode())
        self.pending: list[Step] = []
        self.kept: set[str] = set()
        self.done: Path | None = None

    def do(self, step: Step, *, ends: bool) -> None:
        """Note a step; the last of some that run something ends a layer."""
        if step.word not in ("SHELL", "WORKDIR", "COPY", "RUN"):
            raise ValueError(f"{step.word} is no instruction that the builder's stage may have")
        if step.word in ("SHELL", "WORKDIR") or step.rest.startswith(NOT_HERE):
            return
        self.key.update(f"{step.word} {step.rest}\n".encode())
        self.pending.append(step)
        for name in self._copied(step):
            self.key.update(f"{name}\n".encode() + hashlib.sha256((self.checkout / name).read_bytes()).digest())
        if step.word == "RUN" and ends:
            self._layer(self.layers / self.key.hexdigest()[:32])

    def _copied(self, step: Step) -> list[Path]:
        if step.word != "COPY":
            return []
        source, target = step.rest.split()
        if target not in (source, "."):
            raise ValueError(f"COPY {step.rest} renames")
        found = [name for name in self.files if name == Path(source) or Path(source) in name.parents]
        if not found:
            raise ValueError(f"COPY {source} finds nothing that .dockerignore lets in")
        return found

    def _layer(self, layer: Path) -> None:
        self.kept.add(layer.name)
        if not layer.exists():
            draft = layer.with_name(f"{layer.name}.{os.getpid()}")
            shutil.rmtree(draft, ignore_errors=True)
            if self.done is None:
                draft.mkdir(parents=True)
            else:
                shutil.copytree(self.done, draft)
            for step in self.pending:
                self._perform(step, draft)
            draft.rename(layer)
        self.pending, self.done = [], layer

    def _perform(self, step: Step, folder: Path) -> None:
        if step.word == "RUN":
            self._run(step.rest, folder)
        for name in self._copied(step):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.checkout / name, folder / name)

    def _run(self, line: str, folder: Path) -> None:
        """A line as it stands, with `python3` as the base's Python and the pip that runs this."""
        tools = self.layers / "bin"
        tools.mkdir(exist_ok=True)
        library = tools / "pip"
        if not library.is_symlink():
            library.symlink_to(Path(pip.__file__).parent)
        command = " ".join(f"'{part}'" for part in self.base.command())
        (tools / "python3").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / "python3").chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONHOME": str(self.base.root / "usr")}
        environment |= {"PYTHONPATH": str(tools), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}
        command_line = ["/bin/sh", "-euc", line]
        subprocess.run(command_line, cwd=folder, env=environment, check=True)

    def finish(self, target: Path) -> Path:
        """The last layer under its own name; layers of other times go."""
        if self.pending or self.done is None:
            raise ValueError("the builder's stage ends with something else than RUN")
        mark, draft = target.with_name("image.layer"), target.with_name("image.draft")
        if not (target.exists() and mark.exists() and mark.read_text() == self.done.name):
            mark.unlink(missing_ok=True)
            for folder in (draft, target):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.done, draft)
            draft.rename(target)
            mark.write_text(self.done.name)
        for layer in self.layers.iterdir():
            if layer.name not in {*self.kept, "bin"}:
                shutil.rmtree(layer)
        return target


def main() -> int:
    """Assemble it and say what it is."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    began = time.monotonic()
    try:
        made = image()
    except Unavailable as error:
        sys.stderr.write(f"no base for the image on this machine: {error}\n")
        return 1
    size = sum(path.stat().st_size for path in made.app.rglob("*") if path.is_file() and not path.is_symlink())
    base = sum(path.lstat().st_size for path in made.base.root.rglob("*") if path.is_file() and not path.is_symlink())
    said = f"{made.app}: {size / 1e6:.0f} MB on a base of {base / 1e6:.0f} MB ({made.base.name}),"
    sys.stdout.write(f"{said} Python {made.base.python}, {time.monotonic() - began:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
