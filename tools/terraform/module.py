"""The blocks of terraform/*.tf together: one flat module. A module within it is refused like a misspelt block."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.terraform.hcl import MARK, Entry, Tree, Unreadable, blocks, entries, unquote
from tools.terraform.messages import unknown
from tools.terraform.schema import Block, Schema

ARGUMENTS: dict[str, tuple[set[str], set[str]]] = {  # block: what it may say, what it must say
    "variable": (
        {"type", "default", "description", "sensitive", "nullable", "validation", "ephemeral"},
        set(),
    ),
    "output": ({"value", "description", "sensitive", "depends_on", "precondition", "ephemeral"}, {"value"}),
    "moved": ({"from", "to"}, {"from", "to"}),
    "removed": ({"from", "lifecycle", "provisioner"}, {"from"}),
    "import": ({"to", "id", "for_each", "provider"}, {"to"}),
    "check": ({"data", "assert"}, {"assert"}),
    "terraform": (
        {"required_version", "required_providers", "backend", "cloud", "provider_meta", "experiments"},
        set(),
    ),
}
OF_PROVIDERS = ("resource", "data", "ephemeral")
KINDS = {*ARGUMENTS, *OF_PROVIDERS, "provider", "locals"}


@dataclass(frozen=True, order=True)
class Finding:
    """What is wrong, where (file:line)."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Module:
    """What the files declare, kind → address → block; `partial` where a file could not be read."""

    declared: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    locals: dict[str, str] = field(default_factory=dict)  # name → file:line
    providers: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    partial: bool = False

    def every(self) -> Iterator[Entry]:
        for of_kind in self.declared.values():
            yield from of_kind.values()

    def say(self, where: str, message: str) -> None:
        self.findings.append(Finding(where, message))


def sources(folder: Path) -> dict[str, str]:
    """File → text of every .tf file of a folder."""
    return {f"{folder.name}/{path.name}": path.read_text() for path in sorted(folder.glob("*.tf"))}


def load(files: Mapping[str, str]) -> Module:
    """The module of these files; what cannot be read or stands there twice is a finding."""
    module = Module()
    for file, text in files.items():
        try:
            found = entries(file, text)
        except Unreadable as problem:
            module.say(f"{file}:1", f"syntax error: {problem}")
            module.partial = True
            continue
        for entry in found:
            _declare(module, entry)
    return module


def _declare(module: Module, entry: Entry) -> None:
    if entry.kind not in KINDS:
        module.say(entry.where, unknown("block type", entry.kind, KINDS))
        return
    address = f"{entry.address}@{entry.where}" if "#" in entry.address else entry.address
    if address in module.declared[entry.kind]:
        module.say(entry.where, f"duplicate {entry.kind} {address}")
    module.declared[entry.kind][address] = entry
    if entry.kind == "locals":
        _declare_locals(module, entry)
    elif entry.kind == "provider":
        alias = f".{unquote(str(entry.body['alias']))}" if "alias" in entry.body else ""
        module.providers.add(entry.address.split("#")[0] + alias)
    elif entry.kind == "terraform":
        for required in blocks(entry.body.get("required_providers", [])):
            module.providers |= set(required) - {MARK}


def _declare_locals(module: Module, entry: Entry) -> None:
    for name in entry.body:
        if name in module.locals:
            module.say(entry.where, f'duplicate local "{name}"')
        module.locals[name] = entry.where


def provider_of(kind: str, body: Tree) -> str:
    """The name of the provider that a block of a type is made by."""
    return str(body.get("provider", kind.split("_")[0])).removeprefix("${").split(".")[0].rstrip("}")


def block_of(schema: Schema, kind: str, name: str, body: Tree) -> Block | None:
    """The schema of a type; None where no provider of it has a schema, {} where its provider does not know it."""
    provider = provider_of(name, body)
    provider = provider if provider in schema else name.split("_")[0]
    if provider not in schema:
        return None
    found: dict[str, Any] = schema[provider][kind]
    return found.get(name) or {}
