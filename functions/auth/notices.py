"""Notices by mail: what a person should know of her account, so that she sees what was not her."""

from common.db import Tx
from common.outbox import Message

KINDS = (
    *("new_device", "password_changed", "email_changed", "email_change_asked", "factor_added", "factor_removed"),
    *("identity_linked", "identity_unlinked", "recovery_code_used"),
)


def post(tx: Tx, kind: str) -> None:
    """Have a notice of `kind` sent to the person of the transaction's seal, once it has committed."""
    if kind not in KINDS:
        raise ValueError(f"no such notice: {kind}")
    tx.post(Message("mail", f"notice_{kind}", tx.claim.principal_id))
