"""The caller's organization; its members, roles, invitations, teams, keys and billing stand in parts."""

from werkzeug.wrappers import Request, Response

from common.http import Call, Json, Routes
from functions.organizations import api_keys, billing, invitations, members, queries, roles, teams
from functions.organizations.schemas import Organization, OrganizationChange

routes = Routes("organizations")
routes.include(members.part)
routes.include(roles.part)
routes.include(invitations.part)
routes.include(teams.part)
routes.include(api_keys.part)
routes.include(billing.part)


@routes.on("GET", "/v1/organization", needs="organizations.view", body=None, answers=Organization)
def get_organization(call: Call) -> Json:
    """Read the caller's organization."""
    return queries.select_organization(call.tx)


@routes.on("PATCH", "/v1/organization", needs="organizations.edit", body=OrganizationChange, answers=Organization)
def change_organization(call: Call) -> Json:
    """Change the name or the settings of the caller's organization."""
    organization = queries.update_organization(call.tx, call.if_match, call.body)
    call.audit("organization.updated", organization.id, fields=sorted(call.body))
    return organization


def organizations(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
