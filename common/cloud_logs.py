"""The edge to Cloud Logging as a reader: whether the logs hold one of some texts, and who sent which requests.

A search is a filter, and Google's Data Access audit logs would keep filters: see docs/traps.md.
Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from common import tracing
from common.settings import settings

if TYPE_CHECKING:
    from google.cloud.logging import Client

LONGEST_FILTER = 20_000  # characters, of the query language
PAGE = 1000  # entries, the most of a page
ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Unsearchable(Exception):
    """Cloud Logging did not answer, or refused; the message names the kind of error alone."""


@dataclass(frozen=True)
class Seen:
    """A request in the load balancer's log: the client's address, when it came, and what it asked for."""

    address: str
    at: datetime
    url: str


def requests(wanted: str, most: int) -> list[Seen]:
    """The requests that a filter names, the newest first, `most` at most. Raises Unsearchable.

    Each page of a thousand counts for the project's quota of sixty a minute: https://cloud.google.com/logging/quotas
    """
    return [
        Seen(str(each.http_request.get("remoteIp", "")), each.timestamp, str(each.http_request.get("requestUrl", "")))
        for each in _listed(wanted, most)
        if each.http_request and each.timestamp
    ]


def search(texts: list[str], since: datetime) -> int:
    """How many entries since then hold one of the texts in any field, in either case of letters. Raises Unsearchable.

    `since` is an aware datetime. An empty text is in every entry and counts for nothing.
    """
    found = set()
    for wanted in _filters([text for text in dict.fromkeys(texts) if text], since):
        found |= _matching(wanted)
    return len(found)


def _matching(wanted: str) -> set[tuple[str, str, str]]:
    """What makes an entry itself: log, time and insert id (LogEntry.insertId), of all that match a filter."""
    return {(str(each.log_name), str(each.timestamp), str(each.insert_id)) for each in _listed(wanted)}


@tracing.traced("logging list")
def _listed(wanted: str, most: int | None = None) -> list[Any]:
    """The entries that match a filter: all, the oldest first, or the newest, `most` at most. Raises Unsearchable."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    order = None if most is None else "timestamp desc"
    try:
        found = _client().list_entries(filter_=wanted, order_by=order, page_size=PAGE)  # type: ignore[no-untyped-call]
        return list(islice(found, most))  # its own max_results asks for a page too many
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise Unsearchable(type(error).__name__) from None  # its text quotes the request


def _filters(texts: list[str], since: datetime) -> Iterator[str]:
    """One or more filters that ask for all the texts, none longer than the language allows."""
    moment = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    beginning, end = f'timestamp>="{moment}" AND (', ")"
    waiting: list[str] = []
    for quoted in map(_quoted, texts):
        if waiting and len(beginning) + len(end) + _joined_length([*waiting, quoted]) > LONGEST_FILTER:
            yield beginning + " OR ".join(waiting) + end
            waiting = []
        waiting.append(quoted)
    if waiting:
        yield beginning + " OR ".join(waiting) + end


def _joined_length(parts: Iterable[str]) -> int:
    return len(" OR ".join(parts))


def _quoted(text: str) -> str:
    """A string of the query language."""
    return '"' + "".join(ESCAPES.get(each, each if each.isprintable() else _code_point(each)) for each in text) + '"'


def _code_point(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


@cache
def _client() -> "Client":
    from google.cloud import logging  # noqa: PLC0415 - slow to import, only where it is used

    endpoint = {"api_endpoint": settings().logging_endpoint}
    return logging.Client(  # type: ignore[no-untyped-call]
        project=settings().project_id, client_options=endpoint, _use_grpc=False
    )
