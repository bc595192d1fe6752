"""Invitations into the organization; accepting one is the auth function's."""

from common import errors
from common.http import Call, Json, Table
from common.outbox import Message
from functions.organizations import invitation_queries as queries
from functions.organizations.members import check_version, no_such_role
from functions.organizations.people_schemas import Invitation, InvitationFilter, InvitationPage, NewInvitation
from functions.organizations.permissions import check_fresh, check_holds

part = Table()
INVITATION = "/v1/invitations/<uuid:invitation_id>"
MAIL = "invitation"


@part.on(
    "GET", "/v1/invitations", needs="users.invite", query=InvitationFilter, body=None, answers=InvitationPage,
    records=True,
)  # fmt: skip
def list_invitations(call: Call) -> Json:
    """List the organization's invitations, newest first."""
    items, last = queries.list_invitations(call.tx, limit=call.query["limit"], after=call.after())
    call.audit("invitation.read")
    return call.page(items, last)


@part.on(
    "POST", "/v1/invitations", needs="users.invite", body=NewInvitation, answers=Invitation, status=201,
    errors=("invitation_pending", "already_member", "rate_limited", "step_up_required"),
)  # fmt: skip
def create_invitation(call: Call) -> Json:
    """Invite somebody by e-mail to a role that holds nothing the caller lacks; a powerful one needs step-up."""
    email = call.body["email"]
    role, pace = queries.prepare_invitation(call.tx, email, call.body["role"])
    if role is None:
        raise no_such_role()
    check_holds(call, role.permissions)
    check_fresh(call, role.permissions)
    invitation = queries.insert_invitation(call.tx, email, role)
    pace.check()
    call.tx.post(Message("mail", MAIL, invitation.id))
    call.audit("invitation.created", invitation.id, role=role.label)
    call.headers["Location"] = f"/v1/invitations/{invitation.id}"
    return invitation


@part.on(
    "POST", f"{INVITATION}/resend", needs="users.invite", body=None, answers=Invitation,
    errors=("conflict", "rate_limited", "step_up_required"),
)  # fmt: skip
def resend_invitation(call: Call) -> Json:
    """Send a new link in the caller's name, with a new end; the old link is dead. An expired invitation revives."""
    invitation_id = call.path["invitation_id"]
    invitation = queries.lock_invitation(call.tx, invitation_id)
    if invitation.role is None:
        raise errors.conflict("conflict", "The role of this invitation is gone. Revoke it, and invite to another role.")
    check_holds(call, invitation.role.permissions)
    check_fresh(call, invitation.role.permissions)
    invitation.pace.check()
    renewed = queries.renew_invitation(call.tx, invitation_id)
    call.tx.post(Message("mail", MAIL, invitation_id))
    call.audit("invitation.resent", invitation_id, role=invitation.role.label)
    return renewed


@part.on("DELETE", INVITATION, needs="users.invite", body=None, answers=None, status=204, errors=("conflict",))
def revoke_invitation(call: Call) -> None:
    """Revoke an invitation that waits: its link is dead at once."""
    invitation_id = call.path["invitation_id"]
    invitation = queries.lock_invitation(call.tx, invitation_id)
    check_version(call, invitation.version)
    queries.revoke_invitation(call.tx, invitation_id)
    call.audit("invitation.revoked", invitation_id)
