"""terraform/*.tf against the schema of the providers, without Terraform: `python -m tools.terraform.check`.

Types, attributes and blocks that do not exist, required ones that are missing, literals of a wrong type, references to
what is not declared, what is declared and never used, and roles that are not in grants.yaml.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.terraform import schema as schemas
from tools.terraform.bodies import META, check_body, check_lifecycle
from tools.terraform.grants import EVERYBODY, ROLE, check_grants, listed
from tools.terraform.hcl import Entry, Unreadable, parse, texts
from tools.terraform.messages import unknown
from tools.terraform.module import ARGUMENTS, OF_PROVIDERS, Finding, Module, block_of, load, provider_of, sources
from tools.terraform.references import check_uses, unused
from tools.terraform.schema import Schema

CHECKOUT = Path(__file__).parent.parent.parent
STRAYS = (".tf.json", "override.tf", ".auto.tfvars", ".auto.tfvars.json", "terraform.tfvars", "terraform.tfvars.json")


def findings(files: Mapping[str, str], grants: dict[str, Any] | None = None) -> list[Finding]:
    """What is wrong in a module of these files, by name; `grants` in place of grants.yaml."""
    module, schema = load(files), schemas.load()
    for entry in module.every():
        for message in _check(module, schema, entry):
            module.say(entry.where, message)
    module.findings += check_grants(module, listed() if grants is None else grants)
    if not module.partial:
        for where, name in unused(module):
            module.say(where, f"{name} is never used")
    return sorted(set(module.findings))


def in_folder(folder: Path) -> list[Finding]:
    """What is wrong in a folder: in the module, and in what Terraform reads besides."""
    files = sources(folder)
    return sorted({*findings(files), *_beside(folder, load(files))})


def _beside(folder: Path, module: Module) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name.endswith(STRAYS):
            yield Finding(f"{folder.name}/{path.name}:1", "Terraform reads this by itself and no check does")
    for path in sorted(folder.glob("env/*.tfvars")):
        where = f"{folder.name}/env/{path.name}:1"
        try:
            values = parse(path.read_text())
        except Unreadable as problem:
            yield Finding(where, f"syntax error: {problem}")
            continue
        for name in sorted(set(values) - set(module.declared["variable"])):
            yield Finding(where, unknown("variable", name, module.declared["variable"]))  # Terraform would only warn
        for text in texts(values):
            if ROLE.search(text) or EVERYBODY.search(text):
                yield Finding(where, f"{text} grants something: that belongs into the module, and into grants.yaml")


def _check(module: Module, schema: Schema, entry: Entry) -> Iterator[str]:
    if entry.kind in ARGUMENTS:
        yield from _arguments(entry)
    elif entry.kind in OF_PROVIDERS:
        yield from _made(module, schema, entry)
    elif entry.kind == "provider":
        name = entry.address.split("#")[0]
        if name in schema:
            own = {key: value for key, value in entry.body.items() if key != "alias"}
            yield from check_body(f"provider {name}", own, schema[name]["config"])
    if not module.partial:  # what a file declares that could not be read is not known
        yield from check_uses(module, schema, entry)


def _arguments(entry: Entry) -> Iterator[str]:
    allowed, required = ARGUMENTS[entry.kind]
    name = f"{entry.kind} {entry.address}".split("#")[0]
    for key in sorted(set(entry.body) - allowed):
        yield unknown(f"argument in {name}:", key, allowed)
    for key in sorted(required - set(entry.body)):
        yield f"{name}: missing {key}"


def _made(module: Module, schema: Schema, entry: Entry) -> Iterator[str]:
    """A resource, a data source or an ephemeral resource."""
    kind = entry.address.split(".")[0]
    block = block_of(schema, entry.kind, kind, entry.body)
    if block is None:
        yield f"{entry.kind} type {kind} belongs to a provider whose schema is not here"
    elif block:
        yield from check_body(entry.address, entry.body, block, META)
        yield from check_lifecycle(entry.address, entry.body, block)
    else:
        elsewhere = sorted(name for name, of_provider in schema.items() if kind in of_provider[entry.kind])
        alike = kind[: len("google_xxx")]  # to compare with all 1,400 takes too long
        known = [name for of_provider in schema.values() for name in of_provider[entry.kind] if name.startswith(alike)]
        if elsewhere:
            yield f"{entry.kind} type {kind} exists only in provider {', '.join(elsewhere)}"
        else:
            yield unknown(f"{entry.kind} type", kind, known)
    alias = str(entry.body.get("provider", "")).removeprefix("${").rstrip("}")
    if alias and alias not in module.providers:
        yield unknown("provider", alias, module.providers)
    elif provider_of(kind, entry.body) not in module.providers:
        yield f"provider {provider_of(kind, entry.body)} is not required"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=CHECKOUT, help="the folder that terraform/ is in")
    folder = parser.parse_args().root / "terraform"
    found = in_folder(folder)
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
