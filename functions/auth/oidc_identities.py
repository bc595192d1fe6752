"""A person's identities at providers: what is linked to her account, and its end."""

from common import issuers
from common.access import SIGNED_IN
from common.http import Call, Json, Later, Table
from functions.auth import notices, oidc_queries, queries, telling
from functions.auth.oidc_schemas import FederatedIdentities

routes = Table()


@routes.on("GET", "/v1/auth/identities", needs=SIGNED_IN, body=None, answers=FederatedIdentities)
def list_identities(call: Call) -> Json:
    """List the person's identities at providers."""
    names = {provider.issuer: provider.name for provider in issuers.providers().values()}
    found = oidc_queries.list_identities(call.tx)
    return {"items": [{**item, "provider": names.get(item["issuer"])} for item in found], "next_cursor": None}


@routes.on(
    "DELETE",
    "/v1/auth/identities/<uuid:identity_id>",
    needs=SIGNED_IN,
    body=None,
    answers=None,
    status=204,
    step_up=True,
)
def unlink_identity(call: Call) -> Later:
    """Remove one of the person's identities at providers: it logs nobody in any more."""
    person = queries.select_person(call.tx)
    oidc_queries.delete_identity(call.tx, call.path["identity_id"])
    notices.post(call.tx, "identity_unlinked")
    call.audit("identity.unlinked", call.path["identity_id"])
    return telling.elsewhere(call, "identity.unlinked", call.path["identity_id"], person)
