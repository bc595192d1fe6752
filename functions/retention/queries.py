"""Retention: literal SQL, one function per query. Each is a transaction of its own."""

from common.db import database
from common.outbox import Message
from common.tokens import Claim

SYSTEM = Claim("s")


def lease_messages(most: int) -> list[Message]:
    """Unsent messages that are due, ours alone for a minute."""
    rows = database().single(
        SYSTEM,
        "SELECT kind, name, reference, id, task_name, traceparent FROM platform.lease_messages(:most)",
        most=most,
    )
    return [
        Message(kind, name, reference, id, task_name, traceparent=traceparent)
        for kind, name, reference, id, task_name, traceparent in rows
    ]


def outbox_state() -> tuple[int, float]:
    """How many messages wait that are due, and for how many seconds the oldest of them."""
    waiting, age = database().single(SYSTEM, "SELECT waiting, age FROM platform.outbox_state()")[0]
    return int(waiting), float(age)


def mark_sent(message_id: str) -> None:
    """The message has become a task."""
    database().single(SYSTEM, "SELECT platform.outbox_sent(:message_id)", message_id=message_id)


def select_periodical() -> list[str]:
    """The tables whose rows have a period in the register, rows that hang on others first."""
    return [str(row[0]) for row in database().single(SYSTEM, "SELECT platform.periodical_tables()")]


def retire(table: str, most: int) -> int:
    """Delete a batch of a table's rows whose period of the register is over; their number."""
    rows = database().single(SYSTEM, "SELECT platform.retire(:table, :most)", table=table, most=most)
    return int(rows[0][0])


def make_partitions() -> None:
    """The next partitions of every table that has some."""
    database().single(SYSTEM, "SELECT platform.make_partitions()")


def select_partitioned() -> list[str]:
    """The tables that are partitioned by time."""
    return [str(row[0]) for row in database().single(SYSTEM, "SELECT platform.partitioned_tables()")]


def retire_partition(table: str) -> str:
    """Drop the oldest partition that is over: dropped, busy (try again) or none (left to do this way)."""
    rows = database().single(SYSTEM, "SELECT platform.retire_partition(:table)", table=table)
    return str(rows[0][0])


def select_retirable() -> list[str]:
    """The tables that retention removes rows of: those with a period, and those whose rows go with such ones."""
    return [str(row[0]) for row in database().single(SYSTEM, "SELECT platform.retirable_tables()")]


def count_retirable(table: str) -> int:
    """How many rows of a table a run would remove now."""
    rows = database().single(SYSTEM, "SELECT platform.retirable(:table)", table=table)
    return int(rows[0][0])


def report_retired(request_id: str) -> bool:
    """Tell one organization what was removed of its rows; false when there is none to tell."""
    rows = database().single(SYSTEM, "SELECT platform.report_retired(:request_id)", request_id=request_id)
    return bool(rows[0][0])


def report_run(request_id: str, *, complete: bool) -> None:
    """Record what the run removed in the platform's chain."""
    database().single(
        SYSTEM, "SELECT platform.report_run(:complete, :request_id)", complete=complete, request_id=request_id
    )


def select_expired_exports() -> list[tuple[str, str]]:
    """Export ids and the prefixes of their objects' names."""
    rows = database().single(SYSTEM, "SELECT job_id, object_prefix FROM platform.expired_exports()")
    return [(row[0], row[1]) for row in rows]


def mark_export_expired(export_id: str, request_id: str) -> None:
    """The objects of the export are gone."""
    database().single(
        SYSTEM,
        "SELECT platform.mark_export_expired(:export_id, :request_id)",
        export_id=export_id,
        request_id=request_id,
    )
