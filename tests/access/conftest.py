"""Everybody who may call a route: made anew for each call, since a call may log its caller out."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pg8000.native
import pytest

from common import access, apikeys
from common.http import Route
from tests.access.routes import PERMISSIONS
from tests.conftest import People, Person

VIEW = {f"{thing}.view" for thing in ("organizations", "project", "task", "session")}
# API.md, "Built-in roles".
BUILT_IN = {
    "owner": PERMISSIONS,
    "admin": PERMISSIONS - {"organizations.delete", "billing.edit"},
    "developer": {
        *("organizations.view", "project.create", "project.view", "project.update"),
        *(code for code in PERMISSIONS if code.startswith(("task.", "session."))),
    },
    "member": VIEW | {"task.create", "task.update", "session.create", "session.update"},
    "viewer": VIEW,
}
STALE_SECONDS = 3600


class Caller(dict[str, str]):
    """Request headers of somebody, and as whom the audit chain of which organization knows them."""

    actor: tuple[str, str] | None = None
    tenant_id: str = ""


@dataclass
class Cast:
    """Makes callers in organizations of their own."""

    people: People
    admin: pg8000.native.Connection

    def person(self, permissions: set[str] | str, *, age_seconds: int = 0) -> Caller:
        """Somebody with a built-in role, or with a role that holds exactly these permissions."""
        person = self.people.create(permissions if isinstance(permissions, str) else "viewer")
        if not isinstance(permissions, str):
            self._give_role(person, permissions)
        if age_seconds:
            person = self.people.log_in(person, age_seconds=age_seconds)
        return self._caller(person, ("user", person.user_id), person)

    def key(self, permissions: set[str]) -> Caller:
        """An API key of an owner."""
        maker, key_id = self.people.create("owner"), str(uuid.uuid4())
        key, prefix = apikeys.new_key()
        self.admin.run(
            "INSERT INTO app.api_keys (tenant_id, id, name, prefix, key_hash, permissions, created_by, expires_at)"
            " VALUES (:t, :id, 'Key', :prefix, CAST(:hash AS uuid), :permissions, :u, now() + interval '1 day')",
            t=maker.tenant_id,
            id=key_id,
            prefix=prefix,
            hash=apikeys.key_hash(key),
            permissions=sorted(permissions),
            u=maker.user_id,
        )
        return self._caller({"Authorization": f"Bearer {key}"}, ("api_key", key_id), maker)

    def suspended(self) -> Caller:
        """An owner of an organization that is suspended."""
        caller = self.person("owner")
        self.admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=caller.tenant_id)
        return caller

    def removed(self) -> Caller:
        """Somebody with a token of an organization that she was an owner of."""
        caller = self.person("owner")
        self.admin.run("DELETE FROM app.members WHERE tenant_id = :t", t=caller.tenant_id)
        return caller

    def make(self, who: str, route: Route) -> Caller:
        """The caller of this name for a route."""
        needed = {route.needs} & PERMISSIONS
        special: dict[str, Callable[[], Caller]] = {
            "role with just that": lambda: self.person(needed),
            "role with all but that": lambda: self.person(PERMISSIONS - needed),
            "key with just that": lambda: self.key(needed),
            "key with all but that": lambda: self.key(PERMISSIONS - needed),
            "stale owner": lambda: self.person("owner", age_seconds=STALE_SECONDS),
            "suspended": self.suspended,
            "removed": self.removed,
            "nobody": Caller,
        }
        return special.get(who, lambda: self.person(who))()

    def _give_role(self, person: Person, permissions: set[str]) -> None:
        role = str(uuid.uuid4())
        self.admin.run(
            "INSERT INTO app.roles (tenant_id, id, name, permissions) VALUES (:t, :id, :name, :permissions)",
            t=person.tenant_id,
            id=role,
            name=f"Role {role[:8]}",
            permissions=sorted(permissions),
        )
        self.admin.run("UPDATE app.members SET role = NULL, role_id = :r WHERE user_id = :u", r=role, u=person.user_id)

    @staticmethod
    def _caller(headers: dict[str, str], actor: tuple[str, str], person: Person) -> Caller:
        caller = Caller(headers)
        caller.actor, caller.tenant_id = actor, person.tenant_id
        return caller


CALLERS = [
    *BUILT_IN,
    *("role with just that", "role with all but that", "key with just that", "key with all but that"),
    *("stale owner", "suspended", "removed", "nobody"),
]


def answer_to(who: str, route: Route) -> tuple[int, str] | None:
    """Status and code of the refusal that the contract gives a caller on a guarded route; None when she is let in."""
    refusals = {"nobody": (401, "invalid_token"), "removed": (401, "invalid_token")}
    if not route.while_suspended:
        refusals["suspended"] = (403, "organization_suspended")
    if who in refusals:
        return refusals[who]
    for_people = route.needs == access.SIGNED_IN or route.step_up
    lacks = {route.needs} <= PERMISSIONS - BUILT_IN.get(who, PERMISSIONS)
    if lacks or (who.startswith("key") and for_people):
        return 403, "permission_denied"
    if who.endswith("all but that") and route.needs in PERMISSIONS:
        return 403, "permission_denied"
    if who == "stale owner" and route.step_up:
        return 403, "step_up_required"
    return None


@pytest.fixture
def cast(people: People, admin: pg8000.native.Connection) -> Cast:
    return Cast(people, admin)
