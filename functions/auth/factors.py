"""Second factors: adding, confirming, removing, and a look at them."""

import uuid
from typing import Any

from common import errors, phones, vault
from common.access import SIGNED_IN
from common.http import Call, Json, Later, Table
from common.settings import settings
from functions.auth import codes, lock, mfa, mfa_queries, notices, queries, recovery, telling, totp
from functions.auth.mfa_queries import Factor
from functions.auth.mfa_schemas import AddedFactor, Confirmation, Confirmed, FactorList, NewFactor

part = Table()


@part.on("GET", "/v1/auth/mfa/factors", needs=SIGNED_IN, body=None, answers=FactorList)
def list_factors(call: Call) -> Json:
    """List the person's second factors."""
    items = [
        {
            "id": factor.id,
            "type": factor.type,
            "status": "confirmed" if factor.confirmed else "pending",
            "hint": factor.hint,
            "created_at": created_at,
            "confirmed_at": confirmed_at,
        }
        for factor, created_at, confirmed_at in mfa_queries.list_factors(call.tx)
    ]
    left = mfa_queries.count_recovery_codes(call.tx)
    return {"items": items, "next_cursor": None, "recovery_codes_left": left}


@part.on(
    "POST",
    "/v1/auth/mfa/factors",
    needs=SIGNED_IN,
    step_up=True,
    secret=True,
    body=NewFactor,
    answers=AddedFactor,
    status=201,
    errors=("conflict", "account_locked", "rate_limited"),
)
def add_factor(call: Call) -> Json:
    """Add a second factor; it counts once its first code is confirmed."""
    kind, phone, factor_id = call.body["type"], call.body["phone"], str(uuid.uuid4())
    email = mfa_queries.select_proofs(call.tx).email
    if kind == "sms":
        _check_number(phone)
        lock.guard(call, email)
        lock.failed(call, email)  # a text message costs money: each counts
    secret = totp.new_secret() if kind == "totp" else None
    sealed = vault.seal(mfa.RING, secret, factor_id, call.caller.user_id) if secret else None
    number = phones.seal(phone, call.caller.user_id) if phone else None
    factor: dict[str, str | None] = {"id": factor_id, "type": kind, "secret": sealed, "phone": number}
    if not mfa_queries.insert_factor(call.tx, factor):
        raise errors.conflict("conflict", "There are ten factors, or there is one by mail already.")
    call.audit("factor.added", factor_id, type=kind)
    shown: dict[str, Any] = {"id": factor_id, "type": kind, "status": "pending"}
    if secret:
        uri = totp.uri(secret, email)
        return {**shown, "secret": totp.base32(secret), "otpauth_uri": uri, "qr_svg": totp.qr_svg(uri)}
    codes.send(call.tx, _locked(call, factor_id), call.caller.login_session_id)
    return shown


@part.on(
    "POST",
    "/v1/auth/mfa/factors/<uuid:factor_id>/confirm",
    needs=SIGNED_IN,
    secret=True,
    body=Confirmation,
    answers=Confirmed,
    errors=("invalid_code", "conflict", "account_locked"),
)
def confirm_factor(call: Call) -> Later:
    """Confirm a new factor with its first code; recovery codes come with it when there are none left."""
    person = queries.select_person(call.tx)
    factor = _locked(call, call.path["factor_id"])
    if factor.confirmed:
        raise errors.conflict("conflict", "This factor is confirmed already.")
    session_id = call.caller.login_session_id
    if not mfa.check(call, call.tx, factor, call.body["code"], bound_to=session_id, email=person.email):
        mfa.record_failure(call, call.tx, "factor.confirmation_failed", factor.id, factor.type)
        raise mfa.refused(call, call.tx, person.email, mfa.invalid_code())
    left = mfa_queries.confirm_factor(call.tx, factor.id)
    call.audit("factor.confirmed", factor.id, type=factor.type)
    notices.post(call.tx, "factor_added")
    answer = {"recovery_codes": recovery.renew(call.tx)} if left == 0 else {}
    return telling.elsewhere(call, "factor.confirmed", factor.id, person, answer=answer, type=factor.type)


@part.on(
    "DELETE",
    "/v1/auth/mfa/factors/<uuid:factor_id>",
    needs=SIGNED_IN,
    step_up=True,
    body=None,
    answers=None,
    status=204,
)
def remove_factor(call: Call) -> Later:
    """Remove a second factor; with the last one go the recovery codes."""
    person = queries.select_person(call.tx)
    factor = _locked(call, call.path["factor_id"])
    mfa_queries.delete_factor(call.tx, factor.id)
    call.audit("factor.removed", factor.id, type=factor.type)
    if factor.confirmed:
        notices.post(call.tx, "factor_removed")
    return telling.elsewhere(call, "factor.removed", factor.id, person, type=factor.type)


def _locked(call: Call, factor_id: str) -> Factor:
    """One of the caller's factors, locked. Raises 404."""
    factor = mfa_queries.lock_factor(call.tx, factor_id)
    if factor is None:
        raise errors.not_found()
    return factor


def _check_number(phone: str) -> None:
    """Only where messages can be sent, and to where the operator pays for. Raises 422."""
    known = settings()
    if not known.sms_from:
        raise errors.invalid({"type": ["Text messages are not set up here."]})
    if known.sms_prefixes and not phone.startswith(tuple(known.sms_prefixes.split(","))):
        raise errors.invalid({"phone": ["Text messages are not sent to this country."]})
