"""What the tables say: variables and outputs as the .tf files declare them, and what a month costs."""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

TERRAFORM = Path(__file__).parent.parent.parent / "terraform"
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
ENVIRONMENTS = ("staging", "production")


class Declared(NamedTuple):
    """A variable or an output."""

    kind: str
    name: str
    description: str
    default: str | None  # as it is written; None when there is none


def declared(texts: list[str]) -> list[Declared]:
    """Every variable and output, in the order of the files."""
    return [_declared(*match) for text in texts for match in BLOCK.findall(text)]


def _declared(kind: str, name: str, body: str) -> Declared:
    said = re.search(r'^  description\s*=\s*"(.*)"$', body, re.MULTILINE)
    default = re.search(r"^  default\s*=\s*(.*?)(?=^  \w|\n\n|\Z)", body, re.MULTILINE | re.DOTALL)
    written = " ".join(default[1].split()) if default else None
    return Declared(kind, name, said[1] if said else "", written)


def sources() -> list[str]:
    """The text of every .tf file."""
    return [path.read_text() for path in sorted(TERRAFORM.glob("*.tf"))]


def variables() -> str:
    """A table of the variables; without a default a value must be given."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for entry in declared(sources()):
        if entry.kind == "variable":
            default = "**required**" if entry.default is None else f"`{entry.default}`"
            lines.append(f"| `{entry.name}` | {default} | {_plain(entry.description)} |")
    return "\n".join(lines)


def outputs() -> str:
    """A table of the outputs."""
    lines = ["| output | what it is |", "|---|---|"]
    found = [entry for entry in declared(sources()) if entry.kind == "output"]
    return "\n".join([*lines, *(f"| `{entry.name}` | {_plain(entry.description)} |" for entry in found)])


def _plain(text: str) -> str:
    return text.replace('\\"', '"').replace("|", "\\|")


def prices() -> dict[str, Any]:
    """terraform/costs.yaml."""
    known: dict[str, Any] = yaml.safe_load((TERRAFORM / "costs.yaml").read_text())
    return known


def cost(item: dict[str, Any], environment: str) -> float:
    """US dollars a month of one item."""
    return float(math.prod(item[environment]) * item["price"])


def costs() -> str:
    """A table of what a month costs, with the sum; an estimated price carries a mark."""
    known = prices()
    lines = ["| item | price | staging | production |", "|---|---|---|---|"]
    for item in known["items"]:
        mark = "" if "source" in item else " *"
        price = f"{item['price']:.7f}".rstrip("0").rstrip(".")
        amounts = " | ".join(_amount(item, environment) for environment in ENVIRONMENTS)
        lines.append(f"| {item['name']} | {price} / {item['unit']}{mark} | {amounts} |")
    sums = [sum(cost(item, environment) for item in known["items"]) for environment in ENVIRONMENTS]
    lines.append("| **a month** | | " + " | ".join(f"**{total:,.0f}**" for total in sums) + " |")
    return "\n".join(lines)


def _amount(item: dict[str, Any], environment: str) -> str:
    quantity = math.prod(item[environment])
    return f"{quantity:,.10g} → {cost(item, environment):,.2f}" if quantity else "–"
