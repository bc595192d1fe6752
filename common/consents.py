"""Consents: what other code asks before it does what needs one, what a browser signals, the link that withdraws."""

import hmac
import re
import uuid
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from marshmallow import validate

from common import tokens
from common.settings import settings

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from common.db import Tx

RING = "unsubscribe-key"
LINK = "unsubscribe"
PATH = "/v1/consents/unsubscribe"
GPC = "gpc"
NAME = r"[a-z][a-z0-9_.-]*\Z"
PURPOSE = [validate.Length(min=1, max=64), validate.Regexp(NAME)]


class Withdrawal(NamedTuple):
    """What a link withdraws: whose consent to which purpose, of an organization or (None) of the platform."""

    account_id: str
    organization_id: str | None
    purpose: str


def consented(tx: "Tx", purpose: str) -> bool:
    """Whether the person whose request this is consents: her newest decision is yes, to the text as it is now.

    False for a purpose that nobody knows, for an API key, and for a consent that is as old as its proof may become.
    """
    return bool(tx.value("SELECT app.consented(:purpose)", purpose=purpose))


def signal(request: "Request") -> str | None:
    """`gpc` when the browser sends Global Privacy Control along. Source: https://w3c.github.io/gpc/"""
    return GPC if request.headers.get("Sec-GPC", "").strip() == "1" else None


def link(withdrawal: Withdrawal) -> str:
    """The https address that withdraws by one POST (RFC 8058). It names ids only, and can do nothing else."""
    said = (withdrawal.account_id, withdrawal.organization_id or "", withdrawal.purpose)
    token = ".".join([tokens.mac(RING, LINK, *said), *said])
    return f"{settings().public_url}{PATH}?token={quote(token)}"


def read(token: str) -> Withdrawal | None:
    """What the token of a link withdraws; None for one that we did not make."""
    mac, *said = token.split(".", 3)
    if len(said) != 3 or not re.match(NAME, said[2]):
        return None
    known = tokens.macs(RING, LINK, *said)
    if not any(hmac.compare_digest(mac.encode(), each.encode()) for each in known):
        return None
    account_id, organization_id, purpose = said
    return Withdrawal(str(uuid.UUID(account_id)), organization_id or None, purpose)
