"""The permission codes, the built-in roles' names, and the rule that nobody gives, takes or changes what they lack."""

import unicodedata
from collections.abc import Iterable
from typing import Final

from common import access, errors
from common.http import Call

# Who holds which by a built-in role: platform.roles in the database, docs/permissions.md for people; a test compares.
CODES: Final[dict[str, str]] = {
    "organizations.view": "See the organization, its members, roles and teams",
    "organizations.edit": "Change the name and the settings of the organization",
    "organizations.delete": "Have the organization erased",
    "users.invite": "Invite people, and see and revoke invitations",
    "users.remove": "Remove members",
    "user.manage": "Give members another role",
    "team.manage": "Make, change and delete teams, and say who belongs to them",
    "role.manage": "Make, change and delete the organization's own roles",
    "apikey.manage": "See, make and delete API keys",
    "billing.view": "See the billing address and the invoices",
    "billing.edit": "Change the billing address",
    "project.view": "See projects",
    "project.create": "Create projects",
    "project.update": "Change projects",
    "project.delete": "Delete projects",
    "task.view": "See tasks",
    "task.create": "Create tasks",
    "task.update": "Change tasks",
    "task.delete": "Delete tasks",
    "session.view": "See sessions and their events",
    "session.create": "Open sessions",
    "session.update": "Change sessions and append events",
    "session.delete": "Delete sessions",
    "consent.manage": "Define the purposes of consents",
    "export.create": "Ask for a copy of other people's data, or of the organization's",
    "deletion.create": "Ask for the erasure of other people's data",
    "legalhold.manage": "Place and lift legal holds",
    "audit.view": "Read the audit events",
    "incident.manage": "Record incidents and their notices",
}
BUILT_IN: Final = ("owner", "admin", "developer", "member", "viewer")
OWNER: Final = "owner"
# What is used after a fresh proof of identity alone: handing it out asks for one too.
GUARDED: Final = frozenset(
    {"organizations.delete", "user.manage", "role.manage", "apikey.manage"}
    | {"export.create", "deletion.create", "legalhold.manage"}
)


def check_holds(call: Call, *roles: Iterable[str]) -> None:
    """403 `permission_denied` when one of these roles holds a permission that the caller lacks; names what is missing.

    Whoever could give a role more than they have, or take it from somebody who has more, could give it to themselves.
    """
    lacking = sorted({code for permissions in roles for code in permissions} - call.caller.permissions)
    if lacking:
        raise errors.Problem("permission_denied", f"This role holds what you lack: {', '.join(lacking)}.")


def check_fresh(call: Call, permissions: Iterable[str]) -> None:
    """403 `step_up_required` when a person whose proof of identity is old hands out what needs a fresh one."""
    if not call.caller.api_key and not call.caller.fresh and not GUARDED.isdisjoint(permissions):
        raise access.step_up_needed()


def is_built_in(name: str) -> bool:
    """Whether a name is, or looks like, that of a built-in role: in any case and any width."""
    return unicodedata.normalize("NFKC", name).casefold().strip() in BUILT_IN
