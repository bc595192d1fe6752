"""What Terraform would make of an environment, as tests ask for it.

`plan("production")`, `plan("staging")`, `plan("foundation")` (production before its first image) and
`plan("production", edge="run")` (with variables changed) are made once and kept under a digest of everything they are
made from. What only an apply could know is made up from where it arises, so that a test can follow it:

    p.resource("google_sql_database_instance.main")["encryption_key_name"]
        == p.resource('google_kms_crypto_key.main["database"]')["id"]
"""

import json
import re
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any

import pytest

from tools.terraform.kept import NoPlan, kept
from tools.terraform.plan import binary

Values = dict[str, Any]


class Plan:
    """A plan, as `terraform show -json` gives it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.json = document

    @cached_property
    def _planned(self) -> dict[str, Values]:
        root = self.json["planned_values"]["root_module"]
        return {item["address"]: item for item in root.get("resources", []) if item["mode"] == "managed"}

    @cached_property
    def _configured(self) -> dict[str, Values]:
        return {item["address"]: item for item in self.json["configuration"]["root_module"].get("resources", [])}

    @property
    def addresses(self) -> list[str]:
        """Of all resources."""
        return list(self._planned)

    def resources(self, kind: str) -> dict[str, Values]:
        """Address → values of every resource of a type."""
        return {address: item["values"] for address, item in self._planned.items() if item["type"] == kind}

    def resource(self, address: str) -> Values:
        """The values of one resource."""
        if address not in self._planned:
            raise KeyError(f"{address} is not planned; near: {get_close_matches(address, self._planned, 5)}")
        values: Values = self._planned[address]["values"]
        return values

    def data(self, kind: str) -> dict[str, Values]:
        """Address → values of every data source of a type; all made up but what was asked for."""
        found = self.json.get("prior_state", {}).get("values", {}).get("root_module", {}).get("resources", [])
        return {item["address"]: item["values"] for item in found if item["mode"] == "data" and item["type"] == kind}

    def references(self, address: str, path: str = "") -> list[str]:
        """What the configuration at and below a path refers to, e.g. ["local.kms_keys", "var.region"].

        The path is as in `template[0].containers[0].image`; the address may have an index or not. Terraform leaves
        out what stands in a `dynamic` block.
        """
        found = self._configured[re.sub(r"\[[^]]*\]$", "", address)]["expressions"]
        for step in re.findall(r"[^.\[\]]+", path):
            found = found[int(step)] if step.isdigit() else found[step]
        return sorted(set(_references(found)))

    @property
    def variables(self) -> Values:
        return {name: item.get("value") for name, item in self.json["variables"].items()}

    @property
    def outputs(self) -> Values:
        return {name: item.get("value") for name, item in self.json["planned_values"].get("outputs", {}).items()}


def _references(expressions: Any) -> list[str]:
    if isinstance(expressions, list):
        return [name for item in expressions for name in _references(item)]
    if not isinstance(expressions, dict):
        return []
    own = expressions.get("references", [])
    if own and all(isinstance(name, str) for name in own):
        return list(own)
    return [name for item in expressions.values() for name in _references(item)]


@cache
def _planned(name: str, changes: str) -> Plan | str:
    """The plan, or why there is none: asked once for all tests of a process."""
    try:
        return Plan(json.loads(kept(name, json.loads(changes)).read_text()))
    except NoPlan as refused:
        return str(refused)


def plan(name: str, **changes: Any) -> Plan:
    """The plan of an environment, with some variables changed; the test is skipped where Terraform is not installed."""
    if binary() is None:
        pytest.skip("terraform is not installed", allow_module_level=True)
    planned = _planned(name, json.dumps(changes, sort_keys=True))
    if isinstance(planned, str):
        pytest.fail(planned, pytrace=False)
    return planned
