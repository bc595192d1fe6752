"""What our product asks of Cloud Logging: texts in any field since a moment, or a comparison of fields."""

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.logging_query import Entry, Test, compiled

LONGEST = 20_000  # characters
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\nrt]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"'
FILTER = re.compile(rf'timestamp>="([^"\\]+)" AND \(({STRING}(?: OR {STRING})*)\)')
ESCAPE = re.compile(r'\\(["\\nrt]|u[0-9a-f]{4}|U[0-9a-f]{8})')
EVER = datetime.min.replace(tzinfo=UTC)
LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


class Unparsable(Exception):
    """Not a filter that can be used here; the text says why, without quoting it."""


@dataclass(frozen=True)
class Filter:
    """Entries since a moment that hold one of the texts; the texts are folded."""

    since: datetime
    texts: tuple[str, ...]

    def holds(self, line: str, payload: Any) -> bool:
        """Whether a value of the payload holds one of the texts; `line` is what it was read from."""
        if "\\" not in line and not self._within(line):
            return False  # most lines: what is not in the line is in none of its values
        return any(self._within(value) for value in values(payload))

    def finds(self, _entry: Entry) -> bool:
        """What holds a text is found."""
        return True

    def _within(self, text: str) -> bool:
        folded = fold(text)
        return any(wanted in folded for wanted in self.texts)


@dataclass(frozen=True)
class Comparison:
    """Entries whose fields compare so."""

    finds: Test
    since: datetime = EVER

    def holds(self, _line: str, _payload: Any) -> bool:
        """Only the whole entry tells."""
        return True


def parse(text: str) -> Filter | Comparison:
    """Raises Unparsable."""
    if len(text) > LONGEST:
        raise Unparsable("The filter is longer than 20000 characters.")
    found = FILTER.fullmatch(text)
    if found is None:
        return _comparison(text)
    try:
        since = datetime.fromisoformat(found[1])
    except ValueError as error:
        raise Unparsable("Unparseable filter: the timestamp is not one of RFC 3339.") from error
    if since.tzinfo is None:
        raise Unparsable("Unparseable filter: the timestamp has no offset.")
    return Filter(since, tuple(fold(_unquoted(each)) for each in re.findall(STRING, found[2])))


def _comparison(text: str) -> Comparison:
    try:
        return Comparison(compiled(text))
    except ValueError as error:
        raise Unparsable("Unparseable filter: neither texts in any field nor a comparison of fields.") from error


def fold(text: str) -> str:
    """As the language compares: without regard to case, in compatibility form (NFKC)."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def values(payload: Any) -> list[str]:
    """The values of all fields; their names are not searched."""
    if isinstance(payload, dict):
        return [text for value in payload.values() for text in values(value)]
    if isinstance(payload, list):
        return [text for value in payload for text in values(value)]
    return [payload if isinstance(payload, str) else json.dumps(payload)]


def _unquoted(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        escaped = found[1]
        return chr(int(escaped[1:], 16)) if len(escaped) > 1 else LETTERS.get(escaped, escaped)

    return ESCAPE.sub(character, text[1:-1])
