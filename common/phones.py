"""Phone numbers at rest: encrypted, each bound to its account, under a ring whose keys Cloud KMS has wrapped."""

from common import log, vault

RING = "phone-key"


def seal(number: str, account_id: str) -> str:
    """What stands in the database. Raises kms.Unavailable."""
    return vault.seal(RING, number.encode(), account_id)


def read(sealed: str, account_id: str) -> str | None:
    """The number in E.164; None when nobody can read it any more, which is logged. Raises kms.Unavailable."""
    try:
        return vault.read(RING, sealed, account_id).decode()
    except vault.Unreadable:
        log.entry("ERROR", "a phone number cannot be read")
        return None
