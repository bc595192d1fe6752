"""Roles: the built-in ones, and those that an organization makes for itself out of the same permissions."""

from common import errors
from common.http import Call, Json, Table
from functions.organizations import role_queries as queries
from functions.organizations.members import check_version
from functions.organizations.people_schemas import NewRole, PermissionList, Role, RoleChange, RoleFilter, RolePage
from functions.organizations.permissions import CODES, check_holds, is_built_in

part = Table()
ROLE = "/v1/roles/<uuid:role_id>"
BUILT_IN = "role_builtin"


@part.on("GET", "/v1/permissions", needs="organizations.view", body=None, answers=PermissionList, single=True)
def list_permissions(_call: Call) -> Json:
    """List the permissions that roles and API keys are made of."""
    return {
        "items": [{"code": code, "description": description} for code, description in CODES.items()],
        "next_cursor": None,
    }


@part.on("GET", "/v1/roles", needs="organizations.view", query=RoleFilter, body=None, answers=RolePage, single=True)
def list_roles(call: Call) -> Json:
    """List the organization's own roles, newest first, then the built-in ones."""
    items, last = queries.list_roles(call.tx, limit=call.query["limit"], after=call.after())
    return call.page(items, last)


@part.on(
    "POST", "/v1/roles", needs="role.manage", body=NewRole, answers=Role, status=201, step_up=True,
    errors=(BUILT_IN, "role_name_taken"),
)  # fmt: skip
def create_role(call: Call) -> Json:
    """Make a role of permissions that the caller holds."""
    check_holds(call, call.body["permissions"])
    _check_name(call)
    role = queries.insert_role(call.tx, **call.body)
    call.audit("role.created", role.id, permissions=call.body["permissions"])
    call.headers["Location"] = f"/v1/roles/{role.id}"
    return role


@part.on(
    "PATCH", ROLE, needs="role.manage", body=RoleChange, answers=Role, step_up=True,
    errors=(BUILT_IN, "role_name_taken"),
)  # fmt: skip
def change_role(call: Call) -> Json:
    """Change a role, for everybody who has it, at once. Before and after it holds nothing that the caller lacks."""
    role = queries.lock_role(call.tx, call.path["role_id"])
    check_holds(call, role.permissions, call.body.get("permissions", ()))
    check_version(call, role.version)
    _check_name(call)
    changed = queries.update_role(call.tx, call.path["role_id"], call.body)
    call.audit("role.updated", changed.id, fields=sorted(call.body), permissions=call.body.get("permissions"))
    return changed


@part.on(
    "DELETE", ROLE, needs="role.manage", body=None, answers=None, status=204, step_up=True,
    errors=(BUILT_IN, "role_in_use"),
)  # fmt: skip
def delete_role(call: Call) -> None:
    """Delete a role that nobody has and no waiting invitation promises."""
    role = queries.lock_role(call.tx, call.path["role_id"])
    check_holds(call, role.permissions)
    check_version(call, role.version)
    queries.delete_role(call.tx, call.path["role_id"])
    call.audit("role.deleted", call.path["role_id"])


def _check_name(call: Call) -> None:
    if is_built_in(call.body.get("name", "")):
        raise errors.conflict(BUILT_IN, "A built-in role has this name.")
