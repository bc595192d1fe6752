"""A strict reader of a Dockerfile and of .dockerignore: what they say that this repository does not use is an error."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"ARG", "FROM", "SHELL", "RUN", "WORKDIR", "COPY", "LABEL", "ENV", "USER", "EXPOSE", "HEALTHCHECK"}
KNOWN |= {"ENTRYPOINT", "CMD"}


@dataclass(frozen=True)
class Step:
    """One instruction: its word in capitals, and the rest of its line."""

    word: str
    rest: str

    def words(self) -> list[str]:
        """The rest, which is a JSON list or words."""
        found: list[str] = json.loads(self.rest) if self.rest.startswith("[") else self.rest.split()
        return found


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """The rests of every instruction of this word."""
        return [step.rest for step in self.steps if step.word == word]


@dataclass
class Dockerfile:
    """The build arguments before the first stage with their defaults, and the stages in order."""

    arguments: dict[str, str]
    stages: list[Stage]


def read(text: str) -> Dockerfile:
    """Read a Dockerfile. Raises ValueError for an instruction that this reader does not know."""
    found = Dockerfile({}, [])
    for step in _steps(text):
        if step.word == "FROM":
            base, *rest = step.rest.split()
            name = rest[1] if [word.upper() for word in rest[:1]] == ["AS"] else ""
            for argument, value in found.arguments.items():
                base = base.replace(f"${{{argument}}}", value)
            found.stages.append(Stage(base, name))
        elif not found.stages:
            if step.word != "ARG":
                raise ValueError(f"{step.word} before the first FROM")
            name, _, value = step.rest.partition("=")
            found.arguments[name] = value
        else:
            found.stages[-1].steps.append(step)
    return found


def _steps(text: str) -> Iterator[Step]:
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        word, _, rest = line.partition(" ")
        if word not in KNOWN:
            raise ValueError(f"{word} is no instruction that tools/image knows")
        yield Step(word, rest.strip())


class Ignored:
    """The rules of .dockerignore: the last one that fits decides. Raises ValueError for a form that is not known."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self.rules = [(line.startswith("!"), _pattern(line.lstrip("!"))) for line in lines if line and line[0] != "#"]

    def __call__(self, path: Path) -> bool:
        """Whether a file, relative to the checkout, stays out."""
        out = False
        for inside, pattern in self.rules:
            if pattern.match(path.as_posix()):
                out = not inside
        return out


def _pattern(glob: str) -> re.Pattern[str]:
    if re.search(r"[?\[\]\\]|\*\*[^/]|[^/]\*\*", glob):
        raise ValueError(f"{glob} in .dockerignore is of a form that tools/image does not know")
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in glob.removeprefix("**/").split("/")]
    return re.compile(("(?:.*/)?" if glob.startswith("**/") else "") + "/".join(parts) + r"(?:/|\Z)")


def context(checkout: Path) -> Iterator[Path]:
    """The files that a build sends, relative to the checkout, in order."""
    ignored = Ignored((checkout / ".dockerignore").read_text())
    tops = [path for path in sorted(checkout.iterdir()) if not path.name.startswith(".")]
    for top in (path for path in tops if not ignored(Path(path.name))):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(checkout)
            if path.is_file() and not ignored(relative):
                yield relative
