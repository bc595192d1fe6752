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

from tools.terraform.hcl import Entry, expressions, texts
from tools.terraform.module import Finding, Module
from tools.terraform.references import CALL, WORDS

FILE = Path(__file__).parent / "grants.yaml"
GRANTING = re.compile(
    r"_iam_(?!audit_config$)"  # members, bindings, policies, roles of our own, pools of identities
    r"|_acl$|_acl_policy$|_access$|_access_control$|_rbac_role_binding$|_entitlement$|_group_membership$"
    r"|^google_(service_account|apikeys|storage_hmac|os_login_ssh_public)_key$"
)
ROLE = re.compile(r"\broles/([\w.]*)(\$\{)?")
PERMISSION = re.compile(r"\b[a-z]\w*(?:\.[A-Za-z]\w*){2,}")
REFERENCE = re.compile(r"\$\{[\w.\[\]\"-]*\}")
EVERYBODY = re.compile(r"\ball(?:Authenticated)?Users\b")
PEOPLE = re.compile(r"\b(user|group|domain|principalSet|project(?:Owner|Editor|Viewer)):")
COMPUTED = {"role", "roles", "permissions", "member", "members", "entity", "role_entity", "predefined_acl"}
HARMLESS = {"trimprefix"}  # it can only take away from what stands there
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
            granting = entry.kind == "resource" and GRANTING.search(entry.address.split(".")[0])
            if granting:
                yield from (Finding(entry.where, message) for message in _hidden(entry))
            if roles or granting:
                seen.add(address)
                yield from (Finding(entry.where, message) for message in _compare(address, roles, grants))
    if not module.partial:
        for address in sorted(set(grants) - seen):
            yield Finding(f"tools/terraform/{FILE.name}", f"{address} grants nothing any more")


def _roles(entry: Entry, words: list[str]) -> set[str]:
    """The roles that a value names; the permissions of a role of our own."""
    if entry.address.startswith("google_project_iam_custom_role."):
        return {hit[0] for text in words for hit in PERMISSION.finditer(text) if not REFERENCE.fullmatch(text)}
    return {f"roles/{hit[1]}" for text in words for hit in ROLE.finditer(text) if hit[1]}


def _refused(address: str, words: list[str]) -> Iterator[str]:
    for text in words:
        if hit := EVERYBODY.search(text):
            yield f"{address}: {hit[0]} is everybody"
        for hit in ROLE.finditer(text):
            if hit[2] or not hit[1] or hit[1].endswith("."):
                yield f"{address}: a role that is put together from parts: write out each"
            elif f"roles/{hit[1]}" in REFUSED:
                yield f"{address}: roles/{hit[1]} is no role for anybody here"


def _hidden(entry: Entry) -> Iterator[str]:
    """What of a grant could be anything, since it does not stand there: only references may stand for a role."""
    own_role = entry.address.split(".")[0].endswith("_custom_role")
    for name, value in entry.body.items():
        if own_role and name != "depends_on" and re.search(r"\b(local|var)\.", " ".join(expressions(value))):
            yield f"{entry.address}: {name} comes from elsewhere: write the permissions out"
        if name not in COMPUTED and not own_role:
            continue
        for code in expressions(value):
            for called in {*CALL.findall(code)} - WORDS - HARMLESS:
                yield f"{entry.address}: {name} is made by {called}: write it out"
        for text in texts(value):
            if hit := PEOPLE.search(text):
                yield f"{entry.address}: {hit[1]}: is no account of ours; people are in var.operators"


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
