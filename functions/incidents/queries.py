"""Incidents: literal SQL, one function per query. Each is a transaction of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from common.db import database
from common.tokens import Claim

SYSTEM = Claim("s")


@dataclass(frozen=True)
class Alert:
    """An alert that waits: its record, until when its requests were looked at, and what was done before."""

    id: str
    name: str
    incident_id: str
    opened_at: datetime
    looked_at: datetime | None
    told: bool
    blocked: int
    left_over: int


@dataclass(frozen=True)
class Block:
    """A network that is to be refused; `in_force`: the slot held it; `over`: its time is."""

    id: str
    network: str
    ends_at: datetime
    in_force: bool
    over: bool


def begin_run(run: str, seconds: int) -> bool:
    """Whether the slot is this run's alone for so long; False while another one has it."""
    rows = database().single(
        SYSTEM, "SELECT platform.begin_block_run(CAST(:run AS uuid), :seconds)", run=run, seconds=seconds
    )
    return bool(rows[0][0])


def end_run(run: str) -> None:
    """The run is over."""
    database().single(SYSTEM, "SELECT platform.end_block_run(CAST(:run AS uuid))", run=run)


def insert_alert(id: str, name: str, title: str, severity: str, description: str, began: datetime, request: str) -> str:
    """The record of an alert, a new one where none of its kind is open; the same alert has the same."""
    rows = database().single(
        SYSTEM,
        """
        SELECT platform.open_alert(
            :id, :name, :title, :severity, :description, CAST(:began AS timestamptz), :request)
        """,
        id=id,
        name=name,
        title=title,
        severity=severity,
        description=description,
        began=began.isoformat(),
        request=request,
    )
    return str(rows[0][0])


def close_alert(id: str) -> None:
    """Monitoring says that it is over."""
    database().single(SYSTEM, "SELECT platform.close_alert(:id)", id=id)


def select_alerts(id: str | None = None) -> list[Alert]:
    """This alert, or all that go on or were not told of."""
    rows = database().single(SYSTEM, "SELECT * FROM platform.waiting_alerts(:id)", id=id)
    return [
        Alert(id, name, str(incident), _moment(opened), looked and _moment(looked), *rest)
        for id, name, incident, opened, looked, *rest in rows
    ]


def insert_blocks(
    alert: str,
    networks: Sequence[str],
    counts: Sequence[int],
    seconds: int,
    most: int,
    since: datetime,
    until: datetime,
) -> tuple[int, int]:
    """How many networks are newly blocked, and for how many there was no room.

    What was blocked at the beginning of the look is not blocked anew: its requests are those that it was blocked for.
    """
    rows = database().single(
        SYSTEM,
        """
        SELECT * FROM platform.block(:alert, CAST(:networks AS cidr[]), CAST(:counts AS integer[]), :seconds, :most,
                                     CAST(:since AS timestamptz), CAST(:until AS timestamptz))
        """,
        alert=alert,
        networks=list(networks),
        counts=list(counts),
        seconds=seconds,
        most=most,
        since=since.isoformat(),
        until=until.isoformat(),
    )
    return rows[0][0], rows[0][1]


def select_blocks() -> list[Block]:
    """What the slot should hold, and what it held; the oldest first."""
    rows = database().single(SYSTEM, "SELECT * FROM platform.present_blocks()")
    return [Block(str(id), network, _moment(ends), *rest) for id, network, ends, *rest in rows]


def adopt_blocks(networks: Sequence[str], ends_at: datetime, request: str) -> None:
    """Keep what somebody has written into the slot, until then."""
    database().single(
        SYSTEM,
        "SELECT platform.adopt_blocks(CAST(:networks AS cidr[]), CAST(:ends AS timestamptz), :request)",
        networks=list(networks),
        ends=ends_at.isoformat(),
        request=request,
    )


def settle_blocks(forced: Sequence[str], ended: Sequence[str], undone: Sequence[str], request: str) -> None:
    """Ids of blocks that are in force now, of those that ended, and of those that somebody took out."""
    database().single(
        SYSTEM,
        """
        SELECT platform.settle_blocks(
            CAST(:forced AS uuid[]), CAST(:ended AS uuid[]), CAST(:undone AS uuid[]), :request)
        """,
        forced=list(forced),
        ended=list(ended),
        undone=list(undone),
        request=request,
    )


def tell(alert: str, *, to_operator: bool) -> bool:
    """Write the mail that says what was done, if somebody reads it; False when it was said before."""
    rows = database().single(
        SYSTEM, "SELECT platform.tell_alert(:alert, :to_operator)", alert=alert, to_operator=to_operator
    )
    return bool(rows[0][0])


def _moment(text: str) -> datetime:
    """A moment as PostgreSQL writes it."""
    return datetime.fromisoformat(text)
