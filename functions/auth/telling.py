"""What a person does to her account is told in each of her organizations, since each of them trusts it.

So is what somebody tries with it, in suspended organizations too. A membership that has ended has no chain any more.
"""

import json
from typing import Any

from werkzeug.wrappers import Response

from common.db import database
from common.http import Call, Later
from functions.auth.queries import NOBODY, Person

TELL = """
    SELECT identity.tell_organizations(CAST(:account AS uuid), CAST(:organizations AS uuid[]), CAST(:events AS jsonb))
"""


def others(
    call: Call, action: str, account_id: str, organizations: list[str], *, resource_id: str | None = None, **data: Any
) -> None:
    """Record the event about the account in these organizations, in one transaction."""
    if organizations:
        _tell(call, action, account_id, resource_id or account_id, organizations, "success", data)


def elsewhere(
    call: Call, action: str, resource_id: str, person: Person, *, answer: dict[str, Any] | None = None, **data: Any
) -> Later:
    """Record a success that her present organization knows in her other ones too, once it stands; then the answer."""
    there = [known["id"] for known in person.organizations if known["id"] != call.caller.tenant_id]

    def tell() -> Response:
        others(call, action, person.id, there, resource_id=resource_id, **data)
        if answer is None:
            return Response(status=204)
        return Response(json.dumps(answer), call.route.status, content_type="application/json")

    return Later(tell)


def failure(
    call: Call, action: str, account_id: str, organizations: list[str] | None = None, *, resource_id: str | None = None,
    **data: Any,
) -> None:  # fmt: skip
    """Record that a proof of identity failed or came to nothing, in these organizations or in all of the person."""
    _tell(call, action, account_id, resource_id or account_id, organizations, "failure", data)


def _tell(
    call: Call,
    action: str,
    account_id: str,
    resource_id: str,
    organizations: list[str] | None,
    outcome: str,
    data: dict[str, Any],
) -> None:
    event = {
        "action": action,
        "resource_type": action.split(".")[0],
        "resource_id": resource_id,
        "outcome": outcome,
        "request_id": call.request_id,
        "data": {name: value for name, value in data.items() if value is not None},
        "personal": call.personal,
    }
    database().single(NOBODY, TELL, account=account_id, organizations=organizations, events=json.dumps([event]))
