"""Mailed links: a token is a MAC of its row's id under the mail key, and only its hash is stored.

So nobody who can write into the database alone can make a link that works.
"""

import hmac

from common import errors, log, tokens
from common.settings import settings

RING = "mail-key"


def token(purpose: str, row_id: str) -> str:
    """The token that a link of a new row will carry."""
    return tokens.mac(RING, purpose, row_id)


def genuine(purpose: str, row_id: str, given: str) -> bool:
    """Whether a token that a client shows is the row's, under any key of the ring."""
    return any(hmac.compare_digest(given.encode(), known.encode()) for known in tokens.macs(RING, purpose, row_id))


def link(page: str, purpose: str, row_id: str, token_hash: bytes) -> str | None:
    """The link of a row whose token has this hash, None when the key that made it is gone."""
    for known in tokens.macs(RING, purpose, row_id):
        if hmac.compare_digest(tokens.digest(known), token_hash):
            return f"{settings().public_url}/{page}#token={known}"
    log.entry("ERROR", "the key of a mailed link is gone", purpose=purpose)
    return None


def dead() -> errors.Problem:
    """401: the link was used, is too old, or never was one."""
    return errors.unauthenticated("The link is not valid any more.")
