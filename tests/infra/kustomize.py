"""Renders a kustomization as `kubectl kustomize` does: the few features that sessions/k8s uses, and refuses any other.

Source: https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/, and for the suffix of generated names
https://github.com/kubernetes-sigs/kustomize/blob/master/api/hasher/hasher.go
"""

import copy
import hashlib
import json
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "configMapGenerator", "images", "patches"}
REFERENCES = ("configMapRef", "configMapKeyRef", "configMap")


class Refused(Exception):
    """A kustomization uses what this renderer does not know, or what kustomize would refuse; the message says what."""


class Strict(yaml.SafeLoader):
    """YAML without a key that stands twice: the first one would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping. Raises Refused."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise Refused(f"a key stands twice:{node.start_mark}")
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Any]:
    """The documents of a YAML text, read strictly."""
    return [each for each in yaml.load_all(text, Strict) if each is not None]


def render(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k <folder>` would apply, in no particular order. Raises Refused."""
    objects, generated = _build(folder)
    names = {name: f"{name}-{suffix(each['data'])}" for name, each in generated.items()}
    for each in objects:
        _rename(each, names)
    for name, each in generated.items():
        metadata = {"name": names[name], "namespace": each["namespace"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": each["data"]})
    return objects


def suffix(data: dict[str, str]) -> str:
    """What kustomize appends to the name of a generated ConfigMap: ten characters that change with its data."""
    text = json.dumps({"data": data, "kind": "ConfigMap", "name": ""}, sort_keys=True, separators=(",", ":"))
    for character in "<>&":  # as Go's encoder writes them
        text = text.replace(character, f"\\u{ord(character):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))


def _build(folder: Path) -> tuple[list[Object], dict[str, Object]]:
    (kustomization,) = documents((folder / "kustomization.yaml").read_text())
    _only(kustomization, KNOWN)
    if (kustomization["apiVersion"], kustomization["kind"]) != ("kustomize.config.k8s.io/v1beta1", "Kustomization"):
        raise Refused(f"{folder} holds no kustomization")
    objects: list[Object] = []
    generated: dict[str, Object] = {}
    for name in kustomization.get("resources", ()):
        if (folder / name).is_dir():
            below, maps = _build(folder / name)
            objects += below
            generated |= maps
        else:
            objects += documents((folder / name).read_text())
    for generator in kustomization.get("configMapGenerator", ()):
        _generate(folder, generator, generated)
    for patch in kustomization.get("patches", ()):
        _patch(objects, patch)
    for image in kustomization.get("images", ()):
        _image(objects, image)
    return objects, generated


def _only(given: Object, known: set[str]) -> None:
    if unknown := set(given) - known:
        raise Refused(f"not known to this renderer: {sorted(unknown)}")


def _generate(folder: Path, generator: Object, generated: dict[str, Object]) -> None:
    _only(generator, {"name", "namespace", "behavior", "envs"})
    data = dict(pair for name in generator["envs"] for pair in _environment(folder / name))
    behavior, known = generator.get("behavior", "create"), generator["name"] in generated
    if (behavior, known) not in {("create", False), ("merge", True)}:
        raise Refused(f"behavior {behavior} of the ConfigMap {generator['name']}")
    before = generated[generator["name"]]["data"] if known else {}
    generated[generator["name"]] = {"namespace": generator["namespace"], "data": before | data}


def _environment(path: Path) -> Iterator[tuple[str, str]]:
    seen = set()
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or name in seen or value != value.strip(" \t\"'") or not name.replace("_", "").isalnum():
            raise Refused(f"a line of {path.name} is not one new NAME=value: {name}")
        seen.add(name)
        yield name, value


def _patch(objects: list[Object], patch: Object) -> None:
    _only(patch, {"target", "patch"})
    target = patch["target"]
    _only(target, {"kind", "name"})
    found = [each for each in objects if target == {"kind": each["kind"], "name": each["metadata"]["name"]}]
    if len(found) != 1:
        raise Refused(f"{len(found)} objects are {target}")
    (operations,) = documents(patch["patch"])
    for operation in operations:
        _only(operation, {"op", "path", "value"})
        if operation["op"] != "replace":
            raise Refused(f"operation {operation['op']}")
        put(found[0], operation["path"].removeprefix("/"), operation["value"])


def put(where: Any, path: str, value: Any) -> None:
    """Replace what stands at a JSON pointer (without its first slash) by a value. Raises Refused."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
    try:
        for part in way:
            where = where[int(part) if isinstance(where, list) else part]
        key: Any = int(last) if isinstance(where, list) else last
        where[key]  # what is replaced must be there
        where[key] = copy.deepcopy(value)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Refused(f"there is nothing at {path}") from error


def _image(objects: list[Object], image: Object) -> None:
    _only(image, {"name", "newName", "digest"})
    found = [each for each in _mappings(objects) if each.get("image") == image["name"]]
    if not found:
        raise Refused(f"no container has the image {image['name']}")
    for container in found:
        container["image"] = f"{image['newName']}@{image['digest']}"


def _rename(given: Object, names: dict[str, str]) -> None:
    for each in _mappings(given):
        for kind in REFERENCES:
            if isinstance(each.get(kind), dict) and "name" in each[kind]:
                each[kind]["name"] = names.get(each[kind]["name"], each[kind]["name"])


def _mappings(given: Any) -> Iterator[Object]:
    if isinstance(given, dict):
        yield given
        for each in given.values():
            yield from _mappings(each)
    elif isinstance(given, list):
        for each in given:
            yield from _mappings(each)
