"""Stop an organization and let it go on; end login sessions."""

from argparse import Namespace

from migrations.operator.desk import DONE, REFUSED, Answer, Desk

WORDS = {
    "changed": "done",
    "unchanged": "nothing to do: it is so already",
    "erasing": "the organization is being erased, and stays suspended",
    "unknown": "there is no such organization",
}


def suspend(desk: Desk, chosen: Namespace) -> Answer:
    """Nobody works there any more, from the very next request on; nothing is lost."""
    return _set(desk, chosen, True)


def resume(desk: Desk, chosen: Namespace) -> Answer:
    """A suspended organization goes on."""
    return _set(desk, chosen, False)


def _set(desk: Desk, chosen: Namespace, wanted: bool) -> Answer:
    with desk.transaction():
        outcome = desk.value(
            "SELECT platform.set_suspended(:organization, :wanted, CAST(:noted AS jsonb), :request)",
            organization=chosen.organization,
            wanted=wanted,
        )
    code = DONE if outcome in ("changed", "unchanged") else REFUSED
    return Answer(code, [WORDS[outcome]], {"organization_id": str(chosen.organization), "outcome": outcome})


def end_sessions(desk: Desk, chosen: Namespace) -> Answer:
    """The login sessions of an account, or of everybody, are dead on their next request."""
    with desk.transaction():
        ended = desk.value(
            "SELECT platform.end_sessions(:account, CAST(:noted AS jsonb), :request)", account=chosen.account
        )
    return Answer(DONE, [f"{ended} ended"], {"ended": ended})
