"""Make schema.json.gz anew from the packages cdktn-provider-*: README.md tells where they come from.

`python -m tools.terraform.extract OUT.json.gz WHEEL …`. A package carries generated JavaScript that tells of every
argument `// name - computed: X, optional: Y, required: Z`, and of each that can be set whether it is a block and of
which type. It is read as text; nothing of it is run.
"""

import gzip
import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from tools.terraform.schema import Block

KINDS = {
    "TerraformResource": "resource",
    "TerraformDataSource": "data",
    "TerraformEphemeralResource": "ephemeral",
    "TerraformProvider": "config",
}
OF_ENTRY: dict[str, Any] = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "stringMap": ["map", "string"],
    "numberMap": ["map", "number"],
    "booleanMap": ["map", "bool"],
    "stringList": ["list", "string"],
    "numberList": ["list", "number"],
    "booleanList": ["list", "bool"],
    "stringListList": ["list", ["list", "string"]],
}
OF_GETTER: dict[str, Any] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
    "AnyMap": ["map", "dynamic"],
}
OF_NEW = {name: OF_GETTER[name] for name in ("StringMap", "NumberMap", "BooleanMap")}
CLASS = re.compile(r"^class (\w+) extends cdkt[fn]\.(\w+) \{$", re.MULTILINE)
NOTE = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n((?:.*\n){3})")
HCL_FUNCTION = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
HCL_TOP = re.compile(r"^    synthesizeHclAttributes\(\) \{\n(.*?)^    \}", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(
    r"^\s+(\w+): \{\n\s+value: .*,\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\"",
    re.MULTILINE,
)
NEW = re.compile(r"= new (?:(cdkt[fn])\.|structs?\w*\.|index_\d+\.)?(\w+)\(this, ['\"]\w+['\"](?:, (true|false))?\)")
GET = re.compile(r"get(\w+?)Attribute\(")
SOURCE = re.compile(r"package/lib/([^/]+)/(?:index|index-structs/structs\w*)\.js")
META = re.compile(r"providerName: '([\w-]+)',\n\s+providerVersion: '([\w.+-]+)'")
TYPE = re.compile(r"tfResourceType = \"(\w[\w-]*)\"")


class Entry(NamedTuple):
    """What the generated code says of an argument that can be set."""

    is_block: bool
    nesting: str
    storage: str


Entries = dict[str, Entry]


def entries(text: str) -> Entries:
    return {name: Entry(block == "true", nesting, storage) for name, block, nesting, storage in ENTRY.findall(text)}


class Module:
    """One generated file: its classes by name, and what can be set in each."""

    def __init__(self, code: str) -> None:
        found = list(CLASS.finditer(code))
        ends = [match.start() for match in found[1:]] + [len(code)]
        self.bodies = {match[1]: code[match.end() : end] for match, end in zip(found, ends, strict=False)}
        self.bases = {match[1]: match[2] for match in found}
        self._settable = {
            match[1][0].upper() + match[1][1:]: entries(match[2]) for match in HCL_FUNCTION.finditer(code)
        }
        top = HCL_TOP.search(code)
        self.top = entries(top[1]) if top else {}

    def block(self, name: str, settable: Entries, above: tuple[str, ...] = ()) -> Block:
        """The block that a class stands for."""
        if name in above:  # a block within itself: anything may stand below
            return {"a": {}, "b": {}, "open": True}
        block: Block = {"a": {}, "b": {}}
        for argument, computed, optional, required, code in NOTE.findall(self.bodies.get(name, "")):
            flags = "".join(
                flag for flag, told in zip("roc", (required, optional, computed), strict=True) if told == "true"
            )
            made, entry = NEW.search(code), settable.get(argument)
            if not made or made[1]:
                block["a"][argument] = [flags, _plain(entry, made, code)]
                continue
            struct, many = self._struct(made[2])
            inner = self.block(struct + "OutputReference", self._settable.get(struct, {}), (*above, name))
            if entry and entry.is_block:
                block["b"][argument] = _nested(argument, entry, flags, inner, many=many)
            else:
                block["a"][argument] = [flags, _objects(made, inner)]
        return block

    def _struct(self, name: str) -> tuple[str, bool]:
        """The struct of a class of values within values, and whether there may be several."""
        for suffix, many in (("OutputReference", False), ("List", True), ("Map", True)):
            bare = name.removesuffix(suffix)
            if bare != name and bare + "OutputReference" in self.bodies:
                return bare, many
        return name, True


def _nested(name: str, entry: Entry, flags: str, inner: Block, *, many: bool) -> list[Any]:
    nesting = "single" if entry.nesting == "struct" else entry.nesting
    if nesting == "single" and name != "timeouts" and many:
        nesting = "list"
    return [nesting, 1 if "r" in flags else 0, 0 if many else 1, inner]


def _objects(made: re.Match[str], inner: Block) -> list[Any]:
    """The type of an attribute whose values are objects."""
    fields: dict[str, Any] = {name: kind for name, (_, kind) in inner["a"].items()}
    for name, (_, _, _, below) in inner["b"].items():
        fields[name] = ["list", ["object", {field: kind for field, (_, kind) in below["a"].items()}]]
    shape = "map" if made[2].endswith("Map") else "set" if made[3] == "true" else "list"
    return [shape, ["object", fields]]


def _plain(entry: Entry | None, made: re.Match[str] | None, code: str) -> Any:
    """The type of any other attribute."""
    if entry:
        kind = OF_ENTRY.get(entry.storage, "dynamic")
        return ["set", kind[1]] if entry.nesting == "set" and isinstance(kind, list) else kind
    if made:
        return OF_NEW.get(made[2], "dynamic")
    got = GET.search(code)
    if got and "tolist" in code.lower():
        return ["set", "string"]
    return OF_GETTER.get(got[1], "dynamic") if got else "dynamic"


def sources(wheel: Path) -> list[str]:
    """The generated code in a package, one text for each type."""
    with zipfile.ZipFile(wheel) as package:
        data = package.read(next(name for name in package.namelist() if name.endswith(".jsii.tgz")))
    found: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:  # large types are split over several files
            hit = SOURCE.fullmatch(member.name)
            file = archive.extractfile(member) if hit else None
            if hit and file:
                found.setdefault(hit[1], []).append(file.read().decode())
    return ["\n".join(parts) for parts in found.values()]


def extract(wheel: Path) -> tuple[str, dict[str, Any]]:
    """Name and schema of the provider in a package."""
    provider = ""
    schema: dict[str, Any] = {"version": "", "config": {}, "resource": {}, "data": {}, "ephemeral": {}}
    for code in sources(wheel):
        if meta := META.search(code):
            provider, schema["version"] = meta[1], meta[2]
        module = Module(code)
        for name in (name for name, base in module.bases.items() if base in KINDS):
            kind, block = KINDS[module.bases[name]], module.block(name, module.top)
            named = TYPE.search(module.bodies[name])
            if kind == "config":
                schema["config"] = block
            elif named:
                schema[kind][named[1]] = block
    return provider, schema


def main(out: str, *wheels: str) -> None:
    schema = dict(extract(Path(wheel)) for wheel in wheels)
    with Path(out).open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write(json.dumps(schema, separators=(",", ":"), sort_keys=True).encode())
    for name, found in schema.items():
        print(name, found["version"], {kind: len(found[kind]) for kind in ("resource", "data", "ephemeral")})


if __name__ == "__main__":
    main(*sys.argv[1:])
