"""The parts of the register that are no tables: recipients, activities, places beyond the database, measures."""

import re
from dataclasses import dataclass
from typing import Any

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
CONTROLLERS = ("platform", "tenant")
KINDS = ("processor", "controller")


class RegisterError(ValueError):
    """The register contradicts itself; the message names the table and column."""


def one_of(value: str, known: tuple[str, ...], where: str) -> str:
    """The value. Raises RegisterError when it is none of the known ones."""
    if value not in known:
        raise RegisterError(f"{where}: {value!r} is none of {', '.join(known)}")
    return value


def each_of(values: list[str], known: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The values. Raises RegisterError when one is none of the known ones."""
    return tuple(one_of(value, known, where) for value in values)


def identifier(value: str, where: str) -> str:
    """The value. Raises RegisterError when it could not stand in SQL as it is."""
    if not IDENTIFIER.fullmatch(value):
        raise RegisterError(f"{where}: {value!r} is not an identifier")
    return value


def given(entry: dict[str, Any], key: str, where: str) -> Any:
    """A value that must be there. Raises RegisterError with both names."""
    if key not in entry:
        raise RegisterError(f"{where}: {key!r} is missing")
    return entry[key]


@dataclass(frozen=True)
class Recipient:
    """Who is given data (Art. 4(9)); `transfer` is the safeguard of Chapter V where data may leave the Union."""

    name: str
    title: str
    kind: str
    place: str
    given: str
    transfer: str | None

    @property
    def text(self) -> str:
        """One sentence."""
        law = ", processor (Art. 28)" if self.kind == "processor" else ""
        return f"{self.title}{law}; {self.place}"


@dataclass(frozen=True)
class Activity:
    """A processing activity of Art. 30: what several tables serve together, for one controller."""

    name: str
    title: str
    controller: str
    purpose: str


@dataclass(frozen=True)
class Place:
    """Where personal data are beside the tables; `erasure` says how an erasure reaches them.

    `content`: it also holds what organizations store, and is part of the processor's record. `resource`: types of
    resources in audit events that are kept here.
    """

    name: str
    title: str
    activity: Activity
    purpose: str
    legal_basis: str
    people: tuple[str, ...]
    data: tuple[str, ...]
    recipients: tuple[str, ...]
    period: str
    ground: str
    erasure: str
    content: bool
    resource: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A measure of Art. 32; `proof` is the file or folder of the repository that shows it."""

    title: str
    text: str
    proof: str


def recipients(entries: dict[str, Any]) -> dict[str, Recipient]:
    """Section `recipients`."""
    return {
        name: Recipient(
            name=identifier(name, "recipients"),
            title=given(entry, "title", name),
            kind=one_of(given(entry, "kind", name), KINDS, name),
            place=given(entry, "place", name),
            given=given(entry, "given", name),
            transfer=entry.get("transfer"),
        )
        for name, entry in entries.items()
    }


def activities(entries: dict[str, Any]) -> dict[str, Activity]:
    """Section `activities`."""
    return {
        name: Activity(
            name=identifier(name, "activities"),
            title=given(entry, "title", name),
            controller=one_of(given(entry, "controller", name), CONTROLLERS, name),
            purpose=given(entry, "purpose", name),
        )
        for name, entry in entries.items()
    }


def places(entries: dict[str, Any], document: dict[str, Any], known: dict[str, Activity]) -> dict[str, Place]:
    """Section `places`; its words are those of the whole document."""
    return {
        name: Place(
            name=identifier(name, "places"),
            title=given(entry, "title", name),
            activity=known[one_of(given(entry, "activity", name), tuple(known), name)],
            purpose=given(entry, "purpose", name),
            legal_basis=given(entry, "legal_basis", name),
            people=each_of(given(entry, "people", name), tuple(document["people"]), name),
            data=each_of(given(entry, "data", name), tuple(document["data"]), name),
            recipients=each_of(given(entry, "recipients", name), tuple(document["recipients"]), name),
            period=given(entry, "period", name),
            ground=given(entry, "ground", name),
            erasure=given(entry, "erasure", name),
            content=bool(entry.get("content", False)),
            resource=tuple(identifier(kind, name) for kind in entry.get("resource", [])),
        )
        for name, entry in entries.items()
    }


def measures(entries: list[dict[str, str]]) -> tuple[Measure, ...]:
    """Section `measures`."""
    return tuple(Measure(entry["title"], entry["text"], entry["proof"]) for entry in entries)
