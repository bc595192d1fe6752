"""Pipelines of Cloud Build and workflows of GitHub as Python: their steps, their images, their shell."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PIPELINES = ("cloudbuild.yaml", "delivery/staging.yaml", "delivery/promotion.yaml", "delivery/production.yaml")
WORKFLOWS = ".github/workflows"
CHECK = "check"  # the image that a pipeline's first step builds
STAGE = re.compile(r"^FROM (\S+) AS (\w+)$", re.MULTILINE)
EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A step of a pipeline: either `args` or `script`. `after`: ids of the steps that end before it begins."""

    id: str
    image: str
    args: tuple[str, ...]
    script: str
    env: tuple[str, ...]
    after: frozenset[str]


def read(path: str, root: Path = ROOT) -> dict[str, Any]:
    """A YAML file."""
    found: dict[str, Any] = yaml.safe_load((root / path).read_text())
    return found


def steps(path: str, root: Path = ROOT) -> list[Step]:
    """The steps of a pipeline. Without `waitFor` a step waits for all that stand before it, as Cloud Build has it."""
    made: list[Step] = []
    for each in read(path, root)["steps"]:
        direct = set(each["waitFor"]) - {"-"} if "waitFor" in each else {step.id for step in made}
        before = {name for step in made if step.id in direct for name in step.after}
        script, args, env = each.get("script", ""), tuple(each.get("args", ())), tuple(each.get("env", ()))
        made.append(Step(each["id"], each["name"], args, script, env, frozenset(direct | before)))
    return made


def images(root: Path = ROOT) -> dict[str, str]:
    """Stage of delivery/Dockerfile → the image that it stands on."""
    return {stage: image for image, stage in STAGE.findall((root / "delivery" / "Dockerfile").read_text())}


def shell(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Where some shell stands, and the script: of pipelines, of workflows (bash, as GitHub starts it), and of .ci."""
    for path in PIPELINES:
        scripts = ((step.id, step.script) for step in steps(path, root) if step.script)
        yield from ((f"{path}, {name}", script.replace("#!/busybox/sh", "#!/bin/sh")) for name, script in scripts)
    for file in sorted((root / WORKFLOWS).glob("*.yml")):
        yield from _runs(f"{WORKFLOWS}/{file.name}", root)
    for file in sorted((root / ".ci").iterdir()):
        yield f".ci/{file.name}", file.read_text()


def _runs(path: str, root: Path) -> Iterator[tuple[str, str]]:
    for name, job in read(path, root)["jobs"].items():
        for number, each in enumerate(job["steps"], 1):
            if "run" in each:
                text = EXPRESSION.sub("expression", each["run"])
                yield f"{path}, {name}, step {number}", f"#!/usr/bin/env bash\nset -e\n{text}"
