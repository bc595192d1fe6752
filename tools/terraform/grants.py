"""Who may do what, as terraform/*.tf has it, against grants.yaml: a wider role needs a reason there before it is one.

Every resource that grants something and every local that names a role stands there by its address, with all its roles
(of a role of our own: its permissions) and why. What stands there and is no longer granted must go.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.terraform.hcl import Entry, unquote
from tools.terraform.module import Finding, Module

FILE = Path(__file__).parent / "grants.yaml"
GRANTING = re.compile(r"_iam_(member|binding|policy|custom_role)$")
ROLE = re.compile(r"\broles/([\w.]*)(\$\{)?")
PERMISSION = re.compile(r"[a-z]+\.[A-Za-z]+\.[A-Za-z]+")
EVERYBODY = re.compile(r"\ball(?:Authenticated)?Users\b")
REFUSED = {"roles/owner", "roles/editor", "roles/viewer", "roles/browser"}
SHORTEST_REASON = 25  # characters: "needed" is none


@cache
def listed() -> dict[str, Any]:
    """Address → roles and why."""
    grants: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return grants


def check_grants(module: Module, grants: dict[str, Any]) -> Iterator[Finding]:
    """Findings in the grants of a module."""
    seen = set()
    for entry in module.every():
        for address, words in entry.words.items():
            yield from (Finding(entry.where, message) for message in _refused(address, words))
            roles = _roles(entry, words)
            if roles or (entry.kind == "resource" and GRANTING.search(entry.address.split(".")[0])):
                seen.add(address)
                yield from (Finding(entry.where, message) for message in _compare(address, roles, grants))
    if not module.partial:
        for address in sorted(set(grants) - seen):
            yield Finding(f"tools/terraform/{FILE.name}", f"{address} grants nothing any more")


def _roles(entry: Entry, words: list[str]) -> set[str]:
    """The roles that a value names; the permissions of a role of our own."""
    if entry.address.startswith("google_project_iam_custom_role."):
        return {unquote(word) for word in words if PERMISSION.fullmatch(unquote(word))}
    return {f"roles/{hit[1]}" for text in words for hit in ROLE.finditer(text) if hit[1]}


def _refused(address: str, words: list[str]) -> Iterator[str]:
    for text in words:
        if hit := EVERYBODY.search(text):
            yield f"{address}: {hit[0]} is everybody"
        for hit in ROLE.finditer(text):
            if hit[2] or hit[1].endswith("."):
                yield f"{address}: a role that is put together from parts: write out each"
            elif f"roles/{hit[1]}" in REFUSED:
                yield f"{address}: roles/{hit[1]} is no role for anybody here"


def _compare(address: str, roles: set[str], grants: dict[str, Any]) -> Iterator[str]:
    grant = grants.get(address)
    if grant is None:
        yield f"{address} grants {sorted(roles)} and is not in grants.yaml"
        return
    if roles != set(grant["roles"]):
        more, fewer = sorted(roles - set(grant["roles"])), sorted(set(grant["roles"]) - roles)
        yield f"{address}: not as in grants.yaml: more {more}, fewer {fewer}"
    if len(grant.get("why", "")) < SHORTEST_REASON:
        yield f"{address}: grants.yaml does not say why"
