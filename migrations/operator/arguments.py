"""The arguments of every act."""

import argparse
import ipaddress
import re
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.networks import NEVER, apart
from common.register import register

ADDRESS = re.compile(r"\S@\S")
STAFF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PURPOSE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
LONGEST_REASON = 500
LONGEST_TITLE = 255
MOST = 1000
SHORTEST = {4: 16, 6: 32}
LONGEST_BLOCK = 24 * 30
PROGRAM = "operator"


def reason(text: str) -> str:
    """A reason that may stand in the chain for years: short, and without an address."""
    if not text.strip() or len(text) > LONGEST_REASON or ADDRESS.search(text) or not text.isprintable():
        raise argparse.ArgumentTypeError(f"one line of {LONGEST_REASON} characters at most, without personal data")
    return text


def title(text: str) -> str:
    """What happened, in one line that the organizations read."""
    if not text.strip() or len(text) > LONGEST_TITLE or not text.isprintable():
        raise argparse.ArgumentTypeError(f"one line of {LONGEST_TITLE} characters at most")
    return text


def network(text: str) -> str:
    """An address, or a network in CIDR form."""
    with suppress(ValueError):
        return str(ipaddress.ip_network(text, strict=False))
    raise argparse.ArgumentTypeError("an address or a network, such as 192.0.2.0/24")


def blockable(text: str) -> str:
    """A network that may be refused at the load balancer: one of clients, and not half of the Internet."""
    found = ipaddress.ip_network(network(text))
    if found.prefixlen < SHORTEST[found.version] or not apart(found, NEVER):
        raise argparse.ArgumentTypeError("a network of clients, no larger than /16 (/32 of version 6)")
    return str(found)


def hours(text: str) -> int:
    """For how long."""
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST_BLOCK:
        raise argparse.ArgumentTypeError(f"hours, from 1 to {LONGEST_BLOCK}")
    return int(text)


def staff(text: str) -> str:
    """An opaque id of a member of staff."""
    if not STAFF.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, dots, hyphens and underscores: an id, no mail address")
    return text


def moment(text: str) -> datetime:
    """RFC 3339 with an offset."""
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    raise argparse.ArgumentTypeError("a time such as 2026-11-23T09:30:00Z")


def limit(text: str) -> int:
    """How many lines to show."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST}")
    return int(text)


def purpose(text: str) -> str:
    """The name of a purpose."""
    if not PURPOSE.fullmatch(text):
        raise argparse.ArgumentTypeError("small letters, digits, dots, hyphens and underscores")
    return text


class Acts:
    """The parser, act by act."""

    def __init__(self) -> None:
        self.whole = argparse.ArgumentParser(prog=PROGRAM, description="What the operator of the platform may do")
        self._top = self.whole.add_subparsers(dest="act", required=True, metavar="ACT")

    def add(self, name: str, text: str, among: Any = None, *, reasoned: bool = False) -> argparse.ArgumentParser:
        """One act, with what every act takes. `reasoned`: it has to say why."""
        made: argparse.ArgumentParser = (among or self._top).add_parser(name, help=text, description=text)
        made.add_argument("--reason", type=reason, required=reasoned, help="kept in the audit event; no personal data")
        made.add_argument("--operator", type=staff, help="who does it: an opaque id of staff, kept in the audit event")
        made.add_argument("--json", action="store_true", help="answer in JSON, for scripts")
        return made

    def listing(self, name: str, text: str, among: Any = None, most: int = 100) -> argparse.ArgumentParser:
        """An act that shows a list."""
        made = self.add(name, text, among)
        made.add_argument("--limit", type=limit, default=most, help=f"so many at most (default {most})")
        return made

    def about(self, name: str, text: str) -> Any:
        """A subject with acts of its own, which stand behind it in `within`."""
        made: argparse.ArgumentParser = self._top.add_parser(name, help=text, description=text)
        return made.add_subparsers(dest="within", required=True, metavar="ACT")


def parser() -> argparse.ArgumentParser:
    """Every act with its arguments."""
    acts = Acts()
    for name, text in (("suspend", "stop an organization"), ("resume", "let a suspended organization go on")):
        acts.add(name, text).add_argument("organization", type=uuid.UUID, help="its id")
    sessions = acts.add("end-sessions", "end the login sessions of an account, or of everybody")
    whose = sessions.add_mutually_exclusive_group(required=True)
    whose.add_argument("account", type=uuid.UUID, nargs="?", help="its id")
    whose.add_argument("--everybody", action="store_true", help="all accounts, after a breach")
    _jobs(acts)
    _incident(acts)
    _block(acts)
    keys = acts.add("rotate-keys", "bring key rings up to date now", reasoned=True)
    keys.add_argument("secret", nargs="*", help="its id; none: all")
    keys.add_argument("--now", action="store_true", help="a new key each, whatever the old one's age: after a leak")
    checked = acts.add("verify", "check every audit chain against itself and its anchors")
    checked.add_argument("--organization", type=uuid.UUID, help="this one alone")
    acts.listing("audit", "show the latest events of the platform's own chain", most=20)
    rehearsed = acts.add("retention", "say what the next run of retention would remove")
    rehearsed.add_argument("--dry-run", action="store_true", required=True, help="Cloud Scheduler's job removes")
    consent = acts.add("consent-purpose", "write a purpose that people may consent to; without one, list them")
    consent.add_argument("purpose", type=purpose, nargs="?", help="its name")
    consent.add_argument("--text", type=Path, help="the file with what people consent to, in UTF-8")
    consent.add_argument("--marketing", action=argparse.BooleanOptionalAction, help="it is about marketing (opt-in)")
    return acts.whole


def _jobs(acts: Acts) -> None:
    listed = acts.listing("jobs", "list exports and erasures that are stuck, silent or failed")
    listed.add_argument("--all", action="store_true", help="also those that wait or run as they should")
    acts.add("replay", "start a job anew", reasoned=True).add_argument("job", type=uuid.UUID, help="its id")
    acts.listing("messages", "list messages that wait, and mails that were not delivered")
    acts.add("send", "send a message anew", reasoned=True).add_argument("message", type=uuid.UUID, help="its id")


def _incident(acts: Acts) -> None:
    within = acts.about("incident", "incidents of the platform (Art. 33 GDPR)")
    opened = acts.add("open", "open an incident in every organization that it touches", within)
    opened.add_argument("--title", required=True, type=title, help="what happened, without personal data")
    opened.add_argument("--severity", required=True, choices=("P0", "P1", "P2", "P3"))
    opened.add_argument("--detected-at", type=moment, help="when it became known; now")
    opened.add_argument(
        "--data-class",
        action="append",
        default=[],
        choices=sorted(register().data),
        metavar="CLASS",
        help="a class of the register; again for more",
    )
    opened.add_argument("--description", default="", help="more about it, without personal data")
    whose = opened.add_mutually_exclusive_group(required=True)
    whose.add_argument("--organization", type=uuid.UUID, action="append", help="an id; again for more")
    whose.add_argument("--all", action="store_true", help="every organization")
    whose.add_argument("--from", type=moment, dest="since", help="those whose chains show an event from then on")
    opened.add_argument("--to", type=moment, dest="until", help="until then; now")
    opened.add_argument("--actor", type=uuid.UUID, help="of this account or API key alone")
    opened.add_argument("--ip", type=network, help="from this address or network alone; it is not kept")
    acts.listing("list", "list incidents, the newest first", within)
    closed = acts.add("close", "say when the authority was told, or why it was not", within)
    closed.add_argument("incident", type=uuid.UUID, help="its id")
    closed.add_argument("--notified-at", type=moment, help="when the authority was told")
    closed.add_argument("--explanation", help="why it was not, or why late; without personal data")


def _block(acts: Acts) -> None:
    within = acts.about("block", "networks that the load balancer refuses (docs/edge.md)")
    acts.listing("list", "list blocks, with who asked for each and until when", within)
    added = acts.add("add", "block a network", within, reasoned=True)
    added.add_argument("network", type=blockable, help="an address or a network")
    added.add_argument("--hours", type=hours, default=1, help="for how long (default 1)")
    lifted = acts.add("lift", "end every block that touches a network", within, reasoned=True)
    lifted.add_argument("network", type=network, help="an address or a network")


def check(chosen: argparse.Namespace) -> None:
    """What the parser cannot say of two arguments together. Ends the process as the parser does."""
    act = chosen.act
    if act == "incident" and chosen.within == "open":
        narrowed = any(each is not None for each in (chosen.actor, chosen.ip, chosen.until))
        if narrowed and chosen.since is None:
            parser().error("--to, --actor and --ip narrow --from")
        chosen.until = chosen.until or datetime.now(UTC)
        if chosen.since is not None and chosen.since >= chosen.until:
            parser().error("--from is before --to")
    if act == "consent-purpose" and (chosen.purpose is None) != (chosen.text is None):
        parser().error("a purpose needs --text FILE")
    if act == "consent-purpose" and chosen.text is not None and not chosen.text.is_file():
        parser().error(f"there is no file {chosen.text}")
