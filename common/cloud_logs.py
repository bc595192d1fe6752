"""The edge to Cloud Logging as a reader: whether the logs hold one of some texts. The texts themselves are told nobody.

The search is a filter, and Google's Data Access audit logs would keep filters: see docs/traps.md.
Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from common.settings import settings

if TYPE_CHECKING:
    from google.cloud.logging import Client

LONGEST_FILTER = 20_000  # characters, of the query language
PAGE = 1000  # entries, the most of a page
ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Unsearchable(Exception):
    """Cloud Logging did not answer, or refused; the message names the kind of error alone."""


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
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        entries = _client().list_entries(filter_=wanted, page_size=PAGE)  # type: ignore[no-untyped-call]
        return {(str(each.log_name), str(each.timestamp), str(each.insert_id)) for each in entries}
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
