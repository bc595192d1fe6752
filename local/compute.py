"""Compute Engine as far as we use it: the one rule of a security policy, and operations on it (REST v1).

Writes to a policy go one after another, as Google's do: while one is under way, the next is refused as not ready. What
is in force, Envoy reads from a file.
Source: https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies
"""

import asyncio
import json
import time
import uuid
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from local import grants
from local.durable import replace
from local.envoy_armor import NOBODY, discovery
from local.identity import Issuer
from local.layout import PROJECT, Layout
from local.serving import bearer, refusal

POLICY, PRIORITY = "edge", "100"
BASE = f"/compute/v1/projects/{PROJECT}/global"
FIELDS = {"action", "description", "match", "preview", "priority"}
MOST_RANGES, LONGEST_DESCRIPTION = 10, 64
WORK_SECONDS = 0.05  # of a write, until it is in force
RULE = {
    "kind": "compute#securityPolicyRule",
    "priority": int(PRIORITY),
    "action": "deny(403)",
    "preview": False,
    "description": "Incident automation: empty",
    "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": [NOBODY]}},
}


class Invalid(Exception):
    """A request that Google answers with 400."""


class Policy:
    """The rule, in `<root>/compute/rule.json` as Terraform makes it first, and the writes that are under way."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.path("compute", "rule.json")
        self.armor = layout.path("gateway", "armor.json")
        self.ends: dict[str, float] = {}
        if not self.path.exists():
            self.keep(RULE)
        self.publish()

    @property
    def rule(self) -> dict[str, Any]:
        """As it is in force."""
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found

    def keep(self, rule: dict[str, Any]) -> None:
        """Write it down."""
        replace(self.path, json.dumps(rule, indent=1).encode())

    def publish(self) -> None:
        """Tell Envoy, unless the rule is only watched."""
        rule = self.rule
        ranges = [NOBODY] if rule["preview"] else rule["match"]["config"]["srcIpRanges"]
        replace(self.armor, json.dumps(discovery(ranges)).encode())

    def patch(self, change: dict[str, Any]) -> str:
        """Begin a write; its name. Raises Invalid."""
        if any(end > time.monotonic() for end in self.ends.values()):
            raise Invalid(f"The resource 'projects/{PROJECT}/global/securityPolicies/{POLICY}' is not ready")
        _check(change)
        self.keep(self.rule | change)
        self.publish()
        name = f"operation-{uuid.uuid4()}"
        self.ends[name] = time.monotonic() + WORK_SECONDS
        return name

    def operation(self, name: str) -> dict[str, Any]:
        """As Google shows it; one from before a restart is done."""
        done = self.ends.get(name, 0.0) <= time.monotonic()
        return {"kind": "compute#operation", "name": name, "status": "DONE" if done else "RUNNING"}


def _check(change: dict[str, Any]) -> None:
    """Raises Invalid."""
    if not change.keys() <= FIELDS or change.get("priority", int(PRIORITY)) != int(PRIORITY):
        raise Invalid("Invalid JSON payload received. Unknown name.")
    if len(change.get("description", "")) > LONGEST_DESCRIPTION:
        raise Invalid("Invalid value for field 'resource.description': it is longer than 64 characters.")
    if (match := change.get("match")) is None:
        return
    ranges = match.get("config", {}).get("srcIpRanges")
    if match.get("versionedExpr") != "SRC_IPS_V1" or not isinstance(ranges, list) or not ranges:
        raise Invalid("Invalid value for field 'resource.match': srcIpRanges must be specified.")
    if len(ranges) > MOST_RANGES:
        raise Invalid(f"Invalid value for field 'resource.match.config.srcIpRanges': more than {MOST_RANGES}.")
    try:
        for each in ranges:
            ip_network(each)
    except ValueError as error:
        raise Invalid("Invalid value for field 'resource.match.config.srcIpRanges'.") from error


class Api:
    """getRule and patchRule of the policy `edge`, get and wait of operations."""

    def __init__(self, layout: Layout) -> None:
        self.policy = Policy(layout)
        self.refused = grants.known() - grants.having("blocks")

    def denied(self, caller: str, permission: str) -> web.Response | None:
        """403 for an account of the stack that has not the role."""
        if caller not in self.refused:
            return None
        name = f"projects/{PROJECT}/global/securityPolicies/{POLICY}"
        grants.refuse(caller, permission, name)
        return refusal(403, f"Required '{permission}' permission for '{name}'")

    async def get_rule(self, request: web.Request, caller: str) -> web.StreamResponse:
        """The rule of a priority."""
        if (denied := self.denied(caller, "compute.securityPolicies.get")) is not None:
            return denied
        if request.query.get("priority") != PRIORITY:
            return refusal(400, "Invalid value for field 'priority': there is no rule at this priority.")
        return web.json_response(self.policy.rule)

    async def patch_rule(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Change some fields of the rule; the answer is an operation."""
        if (denied := self.denied(caller, "compute.securityPolicies.update")) is not None:
            return denied
        if request.query.get("priority") != PRIORITY:
            return refusal(400, "Invalid value for field 'priority': there is no rule at this priority.")
        try:
            return web.json_response(self.policy.operation(self.policy.patch(await request.json())))
        except Invalid as error:
            return refusal(400, str(error))
        except (ValueError, AttributeError, TypeError):
            return refusal(400, "Invalid JSON payload received.")

    async def operation(self, request: web.Request, caller: str) -> web.StreamResponse:
        """How a write stands; `wait` answers when it is done."""
        if (denied := self.denied(caller, "compute.globalOperations.get")) is not None:
            return denied
        name = request.match_info["name"]
        if request.method == "POST":
            await asyncio.sleep(max(0.0, self.policy.ends.get(name, 0.0) - time.monotonic()))
        return web.json_response(self.policy.operation(name))


def application(layout: Layout) -> web.Application:
    """The REST methods."""
    api, issuer = Api(layout), Issuer(layout.root)
    made = web.Application()
    made.router.add_get(f"{BASE}/securityPolicies/{POLICY}/getRule", bearer(issuer, api.get_rule))
    made.router.add_post(f"{BASE}/securityPolicies/{POLICY}/patchRule", bearer(issuer, api.patch_rule))
    made.router.add_get(f"{BASE}/operations/{{name}}", bearer(issuer, api.operation))
    made.router.add_post(f"{BASE}/operations/{{name}}/wait", bearer(issuer, api.operation))
    return made
