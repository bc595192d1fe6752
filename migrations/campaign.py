"""A mail to everybody who consents to a purpose, and to nobody else: `python -m migrations.campaign --purpose P …`.

Run by the platform's operator, as the migrating role; no address leaves the database here. Mails go through the outbox,
`--per-minute` of them at most, and the consent is asked for again when each one is sent. Killed at any moment it may be
run again with the same arguments: it goes on where it was, and mails nobody twice. The same mail a second time, on
purpose, is a campaign with another `--campaign` id. Exit code 0 when it is through, 2 when there cannot be such a
campaign.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native

from common.settings import admin_url
from migrations.connection import connected

BATCH = 500
PER_MINUTE = 600
LONGEST_SUBJECT, LONGEST_TEXT = 200, 100_000
NAMES = uuid.UUID("8a6f3c1e-52d7-4b0e-9a41-6f1d0c3b7e25")  # the name space of ids that follow from what is said
FIRST = str(uuid.UUID(int=0))
THROUGH, REFUSED = 0, 2
WORDS = {
    "unknown_organization": "there is no such organization",
    "suspended": "the organization is suspended",
    "unknown_purpose": "there is no such purpose",
    "not_marketing": "this purpose is not marketing: nobody has agreed to mails",
    "differs": "this campaign id belongs to another mail",
}
Say = Callable[[str], object]


class Refused(Exception):
    """There can be no such campaign; the message says why."""


@dataclass(frozen=True)
class Campaign:
    """What is sent to whom; `organization` asks for its own purpose, None is the platform's."""

    purpose: str
    subject: str
    text: str
    organization: str | None
    given: uuid.UUID | None = None

    @property
    def id(self) -> str:
        """The given id or, so that the same command goes on and does not begin anew, one that follows from the rest."""
        said = json.dumps([self.organization, self.purpose, self.subject, self.text])
        return str(self.given or uuid.uuid5(NAMES, said))

    def check(self) -> None:
        """Raises Refused for what no mail can be."""
        if not 1 <= len(self.subject.strip()) <= len(self.subject) <= LONGEST_SUBJECT or not self.subject.isprintable():
            raise Refused(f"a subject is one line of 1 to {LONGEST_SUBJECT} characters")
        if not 1 <= len(self.text.strip()) <= len(self.text) <= LONGEST_TEXT or "\x00" in self.text:
            raise Refused(f"a text has 1 to {LONGEST_TEXT} characters")


def send(url: str, campaign: Campaign, say: Say, *, per_minute: int = PER_MINUTE, batch: int = BATCH) -> dict[str, int]:
    """Put the mails into the outbox, `batch` people at a time; the counts. `url` is the administrator's.

    Raises Refused.
    """
    campaign.check()
    request = str(uuid.uuid4())
    with connected(url, urlsplit(url).path.lstrip("/")) as admin:
        admin.run("SET ROLE context_owner")
        outcome = admin.run(
            "SELECT platform.open_campaign(:id, :purpose, :organization, :subject, :text, :request)",
            id=campaign.id,
            purpose=campaign.purpose,
            organization=campaign.organization,
            subject=campaign.subject,
            text=campaign.text,
            request=request,
        )[0][0]
        if outcome in WORDS:
            raise Refused(WORDS[outcome])
        say(f"campaign {campaign.id}: {'goes on' if outcome == 'known' else 'begins'}")
        while True:
            finished, *counts = admin.run(
                "SELECT * FROM platform.run_campaign(:id, :most, CAST(:pace AS interval), :request)",
                id=campaign.id,
                most=batch,
                pace=timedelta(minutes=1) / per_minute,
                request=request,
            )[0]
            if finished:
                return dict(zip(("consenting", "mailed", "skipped", "withheld"), counts, strict=True))


def preview(url: str, campaign: Campaign, *, batch: int = BATCH) -> dict[str, int]:
    """What `send` would count, and nothing done. Raises Refused."""
    campaign.check()
    total = {"consenting": 0, "mailed": 0, "skipped": 0}
    with connected(url, urlsplit(url).path.lstrip("/")) as admin:
        admin.run("SET ROLE context_owner")
        whose: dict[str, Any] = {"purpose": campaign.purpose, "organization": campaign.organization}
        refusal = admin.run("SELECT platform.campaign_refusal(:purpose, :organization)", **whose)[0][0]
        if refusal is not None:
            raise Refused(WORDS[refusal])
        after, seen = FIRST, batch
        while seen == batch:
            after, seen, *counts = _page(admin, whose, after, batch)
            total = {name: total[name] + count for name, count in zip(total, counts, strict=True)}
    return total


def _page(admin: pg8000.native.Connection, whose: dict[str, Any], after: str, most: int) -> list[Any]:
    found: list[Any] = admin.run(
        "SELECT * FROM platform.preview_campaign(:purpose, :organization, :after, :most)",
        after=after,
        most=most,
        **whose,
    )[0]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the file of the text cannot be read ({type(error).__name__})") from error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Mail everybody who consents to a purpose, once")
    parser.add_argument("--purpose", required=True, help="a marketing purpose")
    parser.add_argument("--subject", required=True, help="in one line")
    parser.add_argument("--text", type=Path, required=True, help="a file with the text: plain paragraphs in UTF-8")
    parser.add_argument("--organization", type=uuid.UUID, help="whose purpose it is; without, the platform's")
    parser.add_argument("--campaign", type=uuid.UUID, help="its id; without, one that follows from what is said")
    parser.add_argument("--per-minute", type=int, default=PER_MINUTE, help="mails that leave in a minute, at most")
    parser.add_argument("--dry-run", action="store_true", help="count, and send nothing")
    chosen = parser.parse_args()
    if chosen.per_minute < 1:
        parser.error("--per-minute: at least 1")
    return chosen


def main() -> int:
    """Send, or count with --dry-run, and print the counts as one line of JSON."""
    chosen = _arguments()
    organization = str(chosen.organization) if chosen.organization else None
    try:
        campaign = Campaign(chosen.purpose, chosen.subject, _text(chosen.text), organization, chosen.campaign)
        if chosen.dry_run:
            counts = preview(admin_url(), campaign)
        else:
            counts = send(admin_url(), campaign, _say, per_minute=chosen.per_minute)
    except Refused as error:
        sys.stderr.write(f"nothing was done: {error}\n")
        return REFUSED
    _say(json.dumps(counts))
    return THROUGH


if __name__ == "__main__":
    sys.exit(main())
