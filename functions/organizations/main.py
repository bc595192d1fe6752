"""The caller's organization and its members."""

from werkzeug.wrappers import Request, Response

from common.http import Call, Json, Routes
from functions.organizations import api_keys, billing, queries
from functions.organizations.schemas import MemberFilter, MemberPage, Organization, OrganizationChange

routes = Routes("organizations")
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


@routes.on("GET", "/v1/members", needs="organizations.view", query=MemberFilter, body=None, answers=MemberPage)
def list_members(call: Call) -> Json:
    """List the members of the caller's organization, newest first."""
    query = call.query
    items, last = queries.list_members(call.tx, limit=query["limit"], after=call.after(), role=query["role"])
    return call.page(items, last)


def organizations(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
