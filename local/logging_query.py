"""The part of Cloud Logging's query language that terraform/*.tf and the product write, over entries as it keeps them.

Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote

Entry = dict[str, Any]
Test = Callable[[Entry], bool]
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
ORDERS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
TOKEN = re.compile(r'\s*(?:(AND|OR|NOT)\b|([(),])|(=~|>=|<=|!=|[=:<>])|"((?:[^"\\]|\\.)*)"|([A-Za-z_][\w.@]*|\d+))')


def compiled(text: str) -> Test:
    """The filter as a test of entries. Raises ValueError for what is not understood."""
    return Parser(text).whole()


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
        if name == "ip_in_net":
            return self._in_network()
        sign = self._take()[2]
        if not name or not sign:
            raise ValueError(f"no comparison before {self.place}: {self.text}")
        values = self._values()
        return lambda found: any(_compare(_field(found, name), sign, value, name) for value in values)

    def _in_network(self) -> Test:
        self._open()
        name = self._take()[4]
        if not self._next_is(1, ","):
            raise ValueError(f", is missing at {self.place}: {self.text}")
        network = ip_network(self._take()[3])
        self._close()

        def within(found: Entry) -> bool:
            try:
                return ip_address(str(_field(found, name))) in network
            except ValueError:
                return False

        return within

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
    if sign in ORDERS:
        return ORDERS[sign](*(_ordered(each, name) for each in (str(value), wanted)))
    text, folded = str(value).casefold(), wanted.casefold()
    return {"=": text == folded, "!=": text != folded, ":": folded in text}[sign]


def _ordered(text: str, name: str) -> float:
    """A number, or a moment as one."""
    return datetime.fromisoformat(text).timestamp() if name == "timestamp" else float(text)
