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


def select_expired_exports() -> list[tuple[str, str]]:
    """Export ids and the prefixes of their objects' names."""
    rows = database().single(SYSTEM, "SELECT job_id, object_prefix FROM platform.expired_exports()")
    return [(row[0], row[1]) for row in rows]


def mark_export_expired(export_id: str) -> None:
    """The objects of the export are gone."""
    database().single(SYSTEM, "SELECT platform.mark_export_expired(:export_id)", export_id=export_id)
