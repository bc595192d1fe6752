"""What is done about an alert: the record first, then who caused it, the slot, and at last word of it."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common import cloud_logs, errors, log
from common.http import Json
from common.settings import settings
from functions.incidents import armor, queries, slot, suspects
from functions.incidents.answers import Answer, answers
from functions.incidents.queries import Alert

BEFORE = timedelta(minutes=10)  # of the time before an alert, since Monitoring sees a line minutes later
LAG = timedelta(minutes=2)  # a line may come into the logs after a look
QUIET = timedelta(minutes=10)  # after which it is said that nobody was found
DESCRIPTION = "Opened by the incident automation for the alert {name}. Judge whether personal data were touched."


@dataclass(frozen=True)
class Notice:
    """An alert as Monitoring tells it; `over` when it says that it ended."""

    id: str
    answer: Answer
    began: datetime
    over: bool


def read(data: str) -> Notice | None:
    """The notice of a message, or None where there is nothing of ours to answer: no reason to bring it again.

    Source: https://cloud.google.com/monitoring/support/notification-options#pubsub (schema 1.2)
    """
    try:
        incident = json.loads(base64.b64decode(data, validate=True))["incident"]
        id, label = incident["incident_id"], incident["policy_user_labels"]["alert"]
        began = datetime.fromtimestamp(float(incident["started_at"]), UTC)
        over = str(incident["state"]).lower() == "closed"
    except (binascii.Error, ValueError, LookupError, TypeError, OverflowError, OSError, RecursionError):
        log.security("WARNING", "a message on the topic of alerts is none")
        return None
    known = answers().get(label) if isinstance(label, str) else None
    if known is None or not isinstance(id, str) or not 1 <= len(id) <= 128 or not id.isprintable():
        return None
    return Notice(id, known, began, over)


def answer(notice: Notice, run: str, request_id: str) -> Json:
    """Do what there is to do about one alert; done before, it changes nothing. Raises Problem: bring it again.

    That it ended may be told before that it began: Pub/Sub keeps no order.
    """
    known = notice.answer
    description = DESCRIPTION.format(name=known.name)
    record = queries.insert_alert(
        notice.id, known.name, known.title, known.severity, description, notice.began, request_id
    )
    if notice.over:
        queries.close_alert(notice.id)
    (alert,) = queries.select_alerts(notice.id)
    if alert.told:
        return {"incident_id": record, "blocked": 0, "left_over": 0}
    added, left_over = _look(alert, known)
    _settle(run, request_id)
    _tell(alert, known, added, left_over)
    return {"incident_id": record, "blocked": added, "left_over": left_over}


def sweep(run: str, request_id: str) -> Json:
    """Look at every alert that goes on, lift what is over, and say what was not said."""
    known_ones = [(alert, known) for alert in queries.select_alerts() if (known := answers().get(alert.name))]
    waiting = [(alert, known) for alert, known in known_ones if known.requests or not alert.told]
    try:
        looked = [(alert, known, *_look(alert, known)) for alert, known in waiting]
    finally:
        present = _settle(run, request_id)  # what is over is lifted, though nobody can be looked for
    for alert, known, added, left_over in looked:
        _tell(alert, known, added, left_over)
    return {"alerts": len(looked), "blocked": sum(each[2] for each in looked), "present": present}


def _look(alert: Alert, known: Answer) -> tuple[int, int]:
    """Networks that are newly to be blocked, and those without room. Raises Problem."""
    until = datetime.now(UTC)
    since = _since(alert, timedelta(seconds=known.seconds), until)
    try:
        found = suspects.find(known, since, until)
    except cloud_logs.Unsearchable as error:
        raise _failure(f"the logs: {error}") from None
    networks, counts = [str(network) for network, _ in found], [count for _, count in found]
    added, left_over = queries.insert_blocks(
        alert.id, networks, counts, settings().block_seconds, armor.ROOM, since, until
    )
    return added, left_over


def _since(alert: Alert, span: timedelta, until: datetime) -> datetime:
    """From when on requests count: none that are so old that their block would have ended."""
    before, last = (BEFORE, alert.opened_at) if alert.looked_at is None else (LAG, alert.looked_at)
    ended = until - timedelta(seconds=settings().block_seconds)
    return max(last, ended) - span - before


def _settle(run: str, request_id: str) -> int:
    """Raises Problem, slot.Busy."""
    try:
        return slot.settle(run, request_id)
    except armor.Foreign:
        raise _failure("the slot: it is not ours") from None
    except armor.Unavailable as error:
        raise _failure(f"the slot: {error}") from None


def _failure(reason: str) -> errors.Problem:
    """Whoever brought the alert brings it again."""
    log.security("ERROR", "an alert could not be answered", reason=reason)
    return errors.Problem("unavailable")


def _tell(alert: Alert, known: Answer, added: int, left_over: int) -> None:
    """The line raises an alert of its own, which reaches every channel, rather twice than never; one mail."""
    blocked = alert.blocked + added
    found = blocked or left_over or known.requests is None
    if not found and datetime.now(UTC) - alert.opened_at < QUIET:
        return
    if not alert.told or added:
        log.security(
            "CRITICAL",
            "an alert was answered",
            alert=alert.name,
            incident_id=alert.incident_id,
            blocked=blocked,
            left_over=left_over,
        )
    if not alert.told:
        queries.tell(alert.id, to_operator=bool(settings().privacy_mail))
