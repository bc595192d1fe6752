"""Which secrets are rotated, and how long what each key made stays valid. docs/keys.md says the same for operators."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.settings import settings
from common.tokens import CONTEXT_SECONDS, SIGNING_RING, VERIFYING_RING
from functions.keys.rings import Policy

CATALOG = Path(__file__).parent.parent / "catalog.yaml"
CONTEXT = "context-key-"
CURSOR_SECONDS = 86_400  # a list is walked within a day of a promotion
# From the request to the mail about its end: an erasure that awaits approval may take three months (Art. 12(3) GDPR).
MAIL_SECONDS = 100 * 86_400
UNSUBSCRIBE_SECONDS = 3 * 366 * 86_400  # as long as a consent lasts, and so the mails that it allows
WRAPPED = ("mfa-key", "phone-key")  # their keys encrypt, and stand in the ring as Cloud KMS wrapped them

SIGNING_FOR_EVER = ("certificate-key", "audit-key")  # what they signed is checked by anyone, for ever

FOLLOWING = {VERIFYING_RING: "it follows the signing ring"}
ROTATED = ("refresh-key", "mail-key", "unsubscribe-key", "cursor-key", *WRAPPED)  # each has its lifetime in `policy`
DECIDED = {SIGNING_RING, *SIGNING_FOR_EVER, *FOLLOWING, *ROTATED}  # beside the context keys, and `by_hand`


@cache
def _catalog() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(CATALOG.read_text())
    return found


def not_rotated() -> dict[str, str]:
    """The secrets that no run turns, and why."""
    made_elsewhere = {id: f"{entry['held_by']} has it too" for id, entry in _catalog()["by_hand"].items()}
    return FOLLOWING | made_elsewhere


def first_texts() -> dict[str, str | None]:
    """The secrets that are renewed by hand and begin with a text of ours: which, None for a random one."""
    entries = _catalog()["by_hand"].items()
    return {id: entry.get("begins") for id, entry in entries if entry.get("random") or "begins" in entry}


def secret_ids() -> list[str]:
    """Every secret of the catalog, the context keys of all roles included."""
    entries = [*_catalog()["services"].values(), *_catalog()["workloads"].values()]
    return sorted({id for entry in entries for id in entry["secrets"]} | {CONTEXT + entry["role"] for entry in entries})


def written() -> set[str]:
    """The secrets that functions/keys reads and replaces: what its account may, in Terraform too."""
    return {*secret_ids()} - {*not_rotated()} | {*FOLLOWING, *first_texts()}


def policy(id: str) -> Policy | None:
    """How a secret is rotated; None where not_rotated() says why not. LookupError: nobody has decided on it.

    A key's last signature can be as young as the readers' cache when it stops: `settle` is added to every lifetime.
    """
    period = settings().key_rotation_seconds
    settle = max(settings().key_settle_seconds, 2 * settings().secrets_cache_seconds)
    if id in not_rotated():
        return None
    if id.startswith(CONTEXT):
        return Policy(period, settle, CONTEXT_SECONDS)
    if id == SIGNING_RING:
        return Policy(period, settle, settings().access_token_seconds, settings().jwt_algorithm)
    if id in SIGNING_FOR_EVER:
        return Policy(period, settle, None, shrinks=True)
    lifetimes = {
        "refresh-key": settings().family_seconds,
        "mail-key": MAIL_SECONDS,
        "unsubscribe-key": UNSUBSCRIBE_SECONDS,
        "cursor-key": CURSOR_SECONDS,
        "mfa-key": None,  # what it encrypted is decrypted with it for as long as the factor lives
        "phone-key": None,  # likewise
    }
    return Policy(period, settle, lifetimes[id])
