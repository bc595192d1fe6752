"""The services of functions/catalog.yaml, checked entry by entry: what each of its readers would say less plainly."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from functions.keys.policies import DECIDED
from local.grants import RIGHTS
from local.layout import AGENTS, CATALOG

NEEDED = {"folder", "entry", "paths", "role", "kinds", "secrets", "ingress", "invokers"}
NEEDED |= {"cpu", "memory", "concurrency", "timeout_seconds", "min_instances", "max_instances"}
MORE = {"queues", "buckets", "signs_in", "signs_urls", "reads_logs", "secret_writer", "blocks"}
# With dc- before it an account has 6 to 30 characters; with @PROJECT.iam behind it a login has 63 at most.
NAME = re.compile(r"(?=.{3,25}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
BUCKETS = {"exports", "ledger", "anchors"}
OTHERS = {*AGENTS, "build", "release", "nodes"}  # accounts of terraform/{accounts,delivery,cluster}.tf


class _Once(yaml.SafeLoader):
    """YAML in which nothing stands twice; else the last one would count without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
        twice = [str(key) for key, count in keys.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def problems(text: str | None = None) -> list[str]:
    """What is wrong, a sentence each; of the catalog of this checkout, or of another text."""
    try:
        found = _Once(text or CATALOG.read_text()).get_single_data()
    except yaml.YAMLError as error:
        return [f"functions/catalog.yaml: {' '.join(str(error).split())}"]
    services, workloads = found["services"], found["workloads"]
    taken = OTHERS | {*workloads} | {job["account"] for job in found["jobs"].values()} - {*services}
    paths = Counter(path for entry in [*services.values(), *workloads.values()] for path in entry.get("paths", ()))
    said = [f"{path} stands under two services" for path, count in paths.items() if count > 1]
    for name, entry in services.items():
        said += [f"{name}: {each}" for each in _entry(name, entry, taken)]
        allowed = {
            "secrets": DECIDED | {*found["by_hand"]},
            "invokers": {*services, *AGENTS},
            "queues": {*yaml.safe_load(CATALOG.parents[1].joinpath("local", "queues.yaml").read_text())["queues"]},
            "kinds": {"u", "k", "s", "p"},
            "buckets": BUCKETS,
        }
        for field, known in allowed.items():
            said += [f"{name}: {each} is none of the {field}" for each in entry.get(field, ()) if each not in known]
    return said


def _entry(name: str, entry: dict[str, Any], taken: set[str]) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield "a name has 3 to 25 lower-case letters, digits and single hyphens (account and login are made from it)"
    if name in taken:
        yield "another account has this name"
    yield from (f"{field} is no field of an entry" for field in sorted({*entry} - NEEDED - MORE))
    yield from (f"{field} is missing" for field in sorted(NEEDED - {*entry}))
    wanted = {"entry": name.replace("-", "_"), "role": name.replace("-", "_") + "_fn", "folder": name.split("-")[0]}
    yield from (f"{field} must be {value}" for field, value in wanted.items() if entry.get(field, value) != value)
    if not (CATALOG.parent / entry.get("folder", name) / "main.py").exists():
        yield f"there is no functions/{entry.get('folder', name)}/main.py"
    if entry.get("ingress", "all") not in ("all", "internal"):
        yield "ingress is all or internal"
    yield from (f"{path} does not begin with /" for path in entry.get("paths", ()) if not path.startswith("/"))
    for rights in entry.get("buckets", {}).values():
        yield from (f"{right} is no right in a bucket" for right in rights if right not in RIGHTS)
