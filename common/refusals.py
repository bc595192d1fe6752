"""Refusals in the audit chain: of whoever is known, in the organization where she was refused.

Written after the refused transaction was rolled back, in one of its own. What is no event stands in
docs/audit-events.md: where nobody is known there is no chain, and a limit of requests that wrote would be none.
"""

import json
from typing import Final

from common import errors, log
from common.call import Call
from common.db import database
from common.tokens import Claim

RECORDED: Final = frozenset(
    {
        *("permission_denied", "step_up_required", "mfa_enrollment_required", "csrf_failed"),
        *("organization_suspended", "invalid_token", "account_locked", "last_owner"),
        *("oidc_denied", "oidc_invalid", "oidc_already_linked"),
    }
)
RECORD = """
    SELECT app.record_refusal(CAST(:organization AS uuid), CAST(:person AS uuid), CAST(:credential AS uuid), :route,
                              :reason, :needs, :request, CAST(:personal AS jsonb))
"""


def record(call: Call, problem: errors.Problem) -> None:
    """Record that the caller was refused; not where the handler has recorded it itself, which `commits` says."""
    claim = call.acting
    if claim is None or problem.commits or problem.code not in RECORDED:
        return
    tell(
        claim,
        problem.code,
        route=f"{call.route.method} {call.route.path}",
        needs=call.needed,
        request_id=call.request_id,
        personal=call.personal,
    )


def tell(
    claim: Claim, reason: str, *, route: str, needs: str, request_id: str, personal: dict[str, str | None]
) -> None:
    """Write the event of a refusal."""
    told = database().single(
        Claim("u"),
        RECORD,
        organization=claim.tenant_id or None,
        person=claim.principal_id or None,
        credential=claim.login_session_id,
        route=route,
        reason=reason,
        needs=needs,
        request=request_id,
        personal=json.dumps(personal),
    )[0][0]
    if told is None:
        log.security("CRITICAL", "an audit chain takes no event", organization_id=claim.tenant_id or None)
