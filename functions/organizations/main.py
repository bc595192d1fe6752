"""The caller's organization; its members, roles, invitations, teams, keys and billing stand in parts."""

import json

from werkzeug.wrappers import Request, Response

from common import access, errors
from common.http import Call, Json, Routes
from functions.organizations import api_keys, billing, invitations, members, queries, roles, teams
from functions.organizations.schemas import REQUIRE_MFA, Organization, OrganizationChange

routes = Routes("organizations")
routes.include(members.part)
routes.include(roles.part)
routes.include(invitations.part)
routes.include(teams.part)
routes.include(api_keys.part)
routes.include(billing.part)


@routes.on("GET", "/v1/organization", needs="organizations.view", body=None, answers=Organization, single=True)
def get_organization(call: Call) -> Json:
    """Read the caller's organization."""
    return queries.select_organization(call.tx)


@routes.on(
    "PATCH", "/v1/organization", needs="organizations.edit", body=OrganizationChange, answers=Organization,
    errors=("step_up_required",),
)  # fmt: skip
def change_organization(call: Call) -> Json:
    """Change the name or the settings of the caller's organization; to ask for no second factor needs step-up."""
    if "settings" in call.body and not call.body["settings"].get(REQUIRE_MFA):
        _check_loosening(call)
    organization = queries.update_organization(call.tx, call.if_match, call.body)
    call.audit("organization.updated", organization.id, fields=sorted(call.body))
    return organization


def _check_loosening(call: Call) -> None:
    """Who ends `require_mfa` is a person, and has just proved it."""
    current = json.loads(queries.select_organization(call.tx).json)["settings"]
    if current.get(REQUIRE_MFA) and call.caller.api_key:
        raise errors.Problem("permission_denied", "This is for people: an API key may not do it.")
    if current.get(REQUIRE_MFA) and not call.caller.fresh:
        raise access.step_up_needed()


def organizations(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
