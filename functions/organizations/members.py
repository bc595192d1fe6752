"""Members: who belongs to the organization, with which role."""

from common import errors
from common.http import Call, Json, Table
from functions.organizations import member_queries as queries
from functions.organizations.people_schemas import MemberChange
from functions.organizations.permissions import check_holds
from functions.organizations.schemas import Member, MemberFilter, MemberPage

part = Table()
MEMBER = "/v1/members/<uuid:user_id>"


@part.on(
    "GET", "/v1/members", needs="organizations.view", query=MemberFilter, body=None, answers=MemberPage, records=True
)
def list_members(call: Call) -> Json:
    """List the members of the caller's organization, newest first."""
    query = call.query
    items, last = queries.list_members(call.tx, limit=query["limit"], after=call.after(), role=query["role"])
    call.audit("member.read")
    return call.page(items, last)


@part.on(
    "PATCH", MEMBER, needs="user.manage", body=MemberChange, answers=Member, step_up=True, errors=("last_owner",)
)  # fmt: skip
def change_member(call: Call) -> Json:
    """Give a member another role. Both roles hold nothing that the caller lacks."""
    user_id = call.path["user_id"]
    member, another_owner, wanted = queries.lock_member(call.tx, user_id, call.body["role"])
    if wanted is None:
        raise no_such_role()
    check_holds(call, member.permissions, wanted.permissions)
    check_version(call, member.version)
    if member.owns and not wanted.owns and not another_owner:
        raise errors.conflict("last_owner", queries.LAST_OWNER)
    changed = queries.update_member(call.tx, user_id, wanted)
    call.audit("member.role_changed", user_id, before=member.label, after=wanted.label)
    return changed


@part.on(
    "DELETE", MEMBER, needs="users.remove", own="user_id", body=None, answers=None, status=204, errors=("last_owner",)
)  # fmt: skip
def remove_member(call: Call) -> None:
    """Remove a member, or leave: that needs no permission. API keys, teams and log-ins here end with the membership."""
    user_id = call.path["user_id"]
    leaves = user_id == call.caller.user_id and not call.caller.api_key  # a key is not its maker
    member, another_owner, _ = queries.lock_member(call.tx, user_id)
    if not leaves:
        check_holds(call, member.permissions)
    check_version(call, member.version)
    if member.owns and not another_owner:
        raise errors.conflict("last_owner", queries.LAST_OWNER)
    keys = queries.delete_member(call.tx, user_id)
    call.audit("member.left" if leaves else "member.removed", user_id, role=member.label, api_keys=keys)


def no_such_role() -> errors.Problem:
    """422 for a role that neither is built in nor the organization's own."""
    return errors.invalid({"role": ["There is no such role."]})


def check_version(call: Call, version: int) -> None:
    """412 unless If-Match, where it is sent, names this version."""
    if call.if_match not in (None, version):
        raise errors.Problem("precondition_failed")
