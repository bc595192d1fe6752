"""Log entries as Cloud Logging keeps them, and the part of its query language that terraform/*.tf is written in.

Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Entry = dict[str, Any]
Test = Callable[[Entry], bool]
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
LABELS = "logging.googleapis.com/labels"
SPECIAL = ("severity", "time", LABELS, "logging.googleapis.com/trace", "logging.googleapis.com/spanId")
TOKEN = re.compile(r'\s*(?:(AND|OR|NOT)\b|([()])|(=~|>=|<=|!=|[=:<>])|"((?:[^"\\]|\\.)*)"|([A-Za-z_][\w.@]*|\d+))')


def entry(line: str, resource: str = "cloud_run_revision") -> Entry:
    """A line on standard output, as the agent of Cloud Run or GKE makes an entry of it."""
    payload = json.loads(line)
    return {
        "logName": f"projects/p/logs/{quote('run.googleapis.com/stdout', safe='')}",
        "resource": {"type": resource},
        "severity": payload.get("severity", "DEFAULT"),
        "labels": payload.get(LABELS, {}),
        "jsonPayload": {name: value for name, value in payload.items() if name not in SPECIAL},
    }


def matches(text: str, found: Entry) -> bool:
    """Whether an entry passes a filter. Raises ValueError for what is not understood."""
    return Parser(text).whole()(found)


@dataclass
class Parser:
    """Recursive descent: OR binds closer than AND, as in Cloud Logging; NOT closest."""

    text: str
    place: int = 0

    def whole(self) -> Test:
        test = self._both()
        if self._peek() is not None:
            raise ValueError(f"not understood from {self.place}: {self.text[self.place :]}")
        return test

    def _peek(self) -> tuple[str, ...] | None:
        found = TOKEN.match(self.text, self.place)
        return found.groups(default="") if found else None

    def _take(self) -> tuple[str, ...]:
        found = TOKEN.match(self.text, self.place)
        if found is None:
            raise ValueError(f"not understood from {self.place}: {self.text[self.place :]}")
        self.place = found.end()
        return found.groups(default="")

    def _next_is(self, number: int, text: str) -> bool:
        token = self._peek()
        if token is not None and token[number] == text:
            self._take()
            return True
        return False

    def _both(self) -> Test:
        tests = [self._either()]
        while self._next_is(0, "AND"):
            tests.append(self._either())
        return lambda found: all(test(found) for test in tests)

    def _either(self) -> Test:
        tests = [self._term()]
        while self._next_is(0, "OR"):
            tests.append(self._term())
        return lambda found: any(test(found) for test in tests)

    def _term(self) -> Test:
        if self._next_is(0, "NOT"):
            test = self._term()
            return lambda found: not test(found)
        if self._next_is(1, "("):
            test = self._both()
            self._close()
            return test
        name = self._take()[4]
        if name == "log_id":
            self._open()
            wanted = quote(self._take()[3], safe="")
            self._close()
            return lambda found: found["logName"].endswith("/logs/" + wanted)
        sign = self._take()[2]
        if not name or not sign:
            raise ValueError(f"no comparison before {self.place}: {self.text}")
        values = self._values()
        return lambda found: any(_compare(_field(found, name), sign, value, name) for value in values)

    def _values(self) -> list[str]:
        if not self._next_is(1, "("):
            return [self._value()]
        values = [self._value()]
        while self._next_is(0, "OR"):
            values.append(self._value())
        self._close()
        return values

    def _value(self) -> str:
        token = self._take()
        return re.sub(r"\\(.)", r"\1", token[3]) if not token[4] else token[4]

    def _open(self) -> None:
        if self._take()[1] != "(":
            raise ValueError(f"( is missing at {self.place}: {self.text}")

    def _close(self) -> None:
        if self._take()[1] != ")":
            raise ValueError(f") is missing at {self.place}: {self.text}")


def _field(found: Entry, name: str) -> Any:
    value: Any = found
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _compare(value: Any, sign: str, wanted: str, name: str) -> bool:
    """A field that is missing equals nothing. Texts are compared without regard to case."""
    if name == "severity":
        place, limit = SEVERITIES.index(value), SEVERITIES.index(wanted)
        return {"=": place == limit, ">=": place >= limit}[sign]
    if value is None:
        return False
    if sign == "=~":
        return re.search(wanted, str(value)) is not None
    text, folded = str(value).casefold(), wanted.casefold()
    return {"=": text == folded, ":": folded in text}[sign]
