"""Whether a caller may: by what the database said of her in this very transaction, against what the route line asks."""

from typing import TYPE_CHECKING

from common import access, cookies, errors, limits

if TYPE_CHECKING:
    from common.call import Call
    from common.transaction import Tx


def judge(call: "Call", tx: "Tx") -> None:
    """Know the caller by the answer of app.authorize. Raises 403: CSRF, permission, second factor, step-up."""
    caller = call.caller
    caller.user_id, caller.tenant_id = tx.claim.principal_id, tx.claim.tenant_id
    caller.role = tx.granted.get("role")
    caller.permissions = frozenset(tx.granted.get("permissions", ()))
    if caller.api_key:
        limits.remember(caller.api_key, caller.tenant_id)
    if caller.by_cookie:
        cookies.check(call.request, caller.login_session_id)
    needed = call.route.needs
    if caller.api_key and (needed == access.SIGNED_IN or call.route.step_up):
        raise errors.Problem("permission_denied", "This is for people: an API key may not do it.")
    if caller.outside and call.route.tokens:
        raise errors.Problem("permission_denied", "A token of another issuer is not traded for one of ours.")
    own = call.route.own is not None and not caller.api_key and call.path[call.route.own] == caller.user_id
    if needed != access.SIGNED_IN and not own and tx.granted.get("mfa") is False:
        raise errors.Problem("mfa_enrollment_required")
    if needed != access.SIGNED_IN and needed not in caller.permissions and not own:
        raise errors.Problem("permission_denied", f"This needs the permission {needed}.")
    if call.route.step_up and not caller.fresh:
        raise access.step_up_needed()


def judge_scope(call: "Call", tx: "Tx") -> None:
    """What the body's scope needs on top of the route: a permission, and a fresh proof of identity. Raises 403."""
    needed = call.route.beyond(call.parsed)
    if needed is None:
        return
    if tx.claim.kind == "p":
        raise errors.Problem("organization_suspended")
    if tx.granted.get("mfa") is False:
        raise errors.Problem("mfa_enrollment_required")
    if needed not in call.caller.permissions:
        raise errors.Problem("permission_denied", f"This needs the permission {needed}.")
    if not call.caller.fresh:
        raise access.step_up_needed()
