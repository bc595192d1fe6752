"""What the next run of retention would remove, and the platform's own consent purposes."""

from argparse import Namespace
from pathlib import Path

from pg8000.exceptions import DatabaseError

from migrations.operator.desk import DENIED, DONE, REFUSED, Answer, Desk, table

CANNOT_BE = "CX409"
LONGEST_TEXT = 10_000


def retention(desk: Desk, chosen: Namespace) -> Answer:
    """Rows by table whose period is over and that nothing holds. Nothing is removed."""
    with desk.transaction():
        rows = desk.rows("SELECT table_name, row_count FROM platform.retention_plan() ORDER BY table_name")
        plan = {name: count for name, count in rows if count}
        desk.record("retention.rehearsed", "retention", tables=len(plan), rows=sum(plan.values()))
    lines = table([{"table": name, "rows": count} for name, count in plan.items()], "nothing is due")
    return Answer(DONE, lines, {"dry_run": True, "removes": plan})


def consent_purpose(desk: Desk, chosen: Namespace) -> Answer:
    """The text of a purpose: a new one makes a new version, to which nobody has consented yet."""
    if chosen.purpose is None:
        return _purposes(desk)
    text = _text(chosen.text)
    if not text:
        with desk.transaction():
            desk.record("purpose.published", "purpose", chosen.purpose, outcome=DENIED, result="no_text")
        return Answer(REFUSED, ["the file does not hold a text of 1 to 10,000 characters in UTF-8"], {})
    try:
        with desk.transaction():
            version = desk.value(
                "SELECT platform.put_consent_purpose(:purpose, CAST(:marketing AS boolean), :text)",
                purpose=chosen.purpose,
                marketing=chosen.marketing,
                text=text,
            )
            desk.record("purpose.published", "purpose", chosen.purpose, version=version)
    except DatabaseError as error:
        details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        if details.get("C") != CANNOT_BE:
            raise
        with desk.transaction():
            desk.record("purpose.published", "purpose", chosen.purpose, outcome=DENIED)
        return Answer(REFUSED, [str(details.get("M"))], {"purpose": chosen.purpose})
    lines = [f"{chosen.purpose}: version {version}"]
    return Answer(DONE, lines, {"purpose": chosen.purpose, "version": version})


def _purposes(desk: Desk) -> Answer:
    with desk.transaction():
        found = desk.tables(
            "SELECT purpose, version, marketing, text_hash, created_at FROM platform.consent_purposes()"
        )
        desk.record("purpose.read", "purpose", purposes=len(found))
    return Answer(DONE, table(found, "there is no purpose"), {"purposes": found})


def _text(path: Path) -> str | None:
    """The content of the file; None when it cannot be read, or is no text of a fitting length."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (UnicodeDecodeError, OSError):
        return None
    return text if 0 < len(text) <= LONGEST_TEXT and "\x00" not in text else None
