"""The personal-data register: what every column holds, whose it is, and what export and erasure do with it."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_name("register.yaml")
CLASSES = ("public", "internal", "restricted", "confidential")
SENSITIVE = ("restricted", "confidential")
ERASURES = ("delete_row", "null", "pseudonym", "keep")
CONTROLLERS = ("platform", "tenant")
SOURCES = ("provided", "observed", "derived")
REFERENCES = ("with_parent", "keep_parent", "null")
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")

REFERENCE = re.compile(r"(\w+) \(([\w, ]+)\) -> ([\w.]+) \(([\w, ]+)\)")


class RegisterError(ValueError):
    """The register contradicts itself; the message names the table and column."""


@dataclass(frozen=True)
class Column:
    """One column: its class, whether the person's copy holds it, what erasure does with it."""

    name: str
    classification: str
    export: bool
    erase: str

    @property
    def sensitive(self) -> bool:
        """Whether it holds personal data, customer content or secrets."""
        return self.classification in SENSITIVE


@dataclass(frozen=True)
class Subject:
    """A person that a row is about: `column` holds the account id, or the e-mail address when `match` is email.

    With `match` text the column may name other things too, with `match` key it holds the id of an API key of hers;
    `without` names a column that must be null then.
    `erase` is what erasure does to that column or row; `policy_erase` the same under an organization's policy `erase`.
    """

    column: str
    role: str
    export: bool
    erase: str
    policy_erase: str
    match: str
    without: str | None


@dataclass(frozen=True)
class Retention:
    """`period` is a PostgreSQL interval counted from column `after`; without one, `until` says when it ends."""

    period: str | None
    after: str | None
    until: str | None
    ground: str

    @property
    def text(self) -> str:
        """The rule as a person reads it."""
        return f"{self.period} after {self.after}" if self.period else f"until {self.until}"


@dataclass(frozen=True)
class Reference:
    """A foreign key: `columns` point to `parent_columns` of table `parent`; `rule` is one of REFERENCES.

    with_parent: the row goes with its parent. keep_parent: a parent to be erased stays while such a row of somebody
    else hangs on it. null: the columns are nulled, but for tenant_id.
    """

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    rule: str

    @property
    def nulled(self) -> tuple[str, ...]:
        """The columns that rule `null` empties."""
        return tuple(name for name in self.columns if name != "tenant_id") if self.rule == "null" else ()


@dataclass(frozen=True)
class Table:
    """One table; `name` is schema.relation."""

    name: str
    controller: str
    subjects: tuple[Subject, ...]
    source: str
    purpose: str
    legal_basis: str
    recipients: tuple[str, ...]
    retention: Retention
    references: tuple[Reference, ...]
    columns: dict[str, Column]

    @property
    def schema(self) -> str:
        """The schema's name."""
        return self.name.partition(".")[0]

    @property
    def relation(self) -> str:
        """The table's name without its schema."""
        return self.name.partition(".")[2]

    @property
    def of_tenant(self) -> bool:
        """Whether each row belongs to one organization."""
        return self.schema == "app"

    @property
    def exported(self) -> tuple[str, ...]:
        """The columns of a person's copy, in the table's order; none when no subject of the table gets a copy."""
        if not any(subject.export for subject in self.subjects):
            return ()
        return tuple(column.name for column in self.columns.values() if column.export)


@dataclass(frozen=True)
class Register:
    """The whole register, validated."""

    tables: dict[str, Table]
    controllers: dict[str, str]
    recipients: dict[str, str]
    rights: tuple[str, ...]
    transfers: str
    automated_decisions: str

    def exported(self, *, of_tenant: bool) -> list[Table]:
        """The tables that a person's copy draws from: those of an organization, or the platform's own."""
        return [table for table in self.tables.values() if table.exported and table.of_tenant is of_tenant]

    def about_people(self, *, of_tenant: bool) -> list[Table]:
        """The tables with subjects, which erasure has to visit."""
        return [table for table in self.tables.values() if table.subjects and table.of_tenant is of_tenant]

    def erasure_order(self, *, of_tenant: bool) -> list[Table]:
        """Tables in an order in which rows can go: each before the tables that its references point to.

        Raises RegisterError when references form a circle; a table that points to itself stands where it stood.
        """
        waiting = {name: table for name, table in self.tables.items() if table.of_tenant is of_tenant}
        order: list[Table] = []
        while waiting:
            pointed = {
                each.parent for table in waiting.values() for each in table.references if each.parent != table.name
            }
            free = [table for name, table in waiting.items() if name not in pointed]
            if not free:
                raise RegisterError(f"references form a circle among {', '.join(sorted(pointed & set(waiting)))}")
            order += free
            for table in free:
                del waiting[table.name]
        return order


def _one_of(value: str, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise RegisterError(f"{where}: {value!r} is none of {', '.join(known)}")
    return value


def _identifier(value: str, where: str) -> str:
    if not IDENTIFIER.fullmatch(value):
        raise RegisterError(f"{where}: {value!r} is not an identifier")
    return value


def _column(table: str, name: str, text: str, default: str) -> Column:
    """`class [export] [erasure]`."""
    where = f"{table}.{_identifier(name, table)}"
    words = str(text).split()
    classification = _one_of(words.pop(0), CLASSES, where)
    export = words[:1] == ["export"]
    rest = words[1:] if export else words
    if len(rest) > 1:
        raise RegisterError(f"{where}: {text!r} has too many words")
    return Column(name, classification, export, _one_of(rest[0] if rest else default, ERASURES, where))


def _subject(table: str, entry: dict[str, Any], columns: dict[str, Column]) -> Subject:
    for column in {entry["column"], entry.get("without", entry["column"])} - set(columns):
        raise RegisterError(f"{table}: subject column {column!r} is not a column")
    erase = _one_of(entry["erase"], ERASURES, table)
    return Subject(
        column=entry["column"],
        role=entry["role"],
        export=bool(entry.get("export", True)),
        erase=erase,
        policy_erase=_one_of(entry.get("policy_erase", erase), ERASURES, table),
        match=_one_of(entry.get("match", "account"), ("account", "email", "text", "key"), table),
        without=entry.get("without"),
    )


def _retention(table: str, entry: dict[str, str], columns: dict[str, Column]) -> Retention:
    found = Retention(entry.get("period"), entry.get("after"), entry.get("until"), entry["ground"])
    if bool(found.period) == bool(found.until) or (found.period and found.after not in columns):
        raise RegisterError(f"{table}: retention needs either a period after one of its columns, or an end")
    return found


def _reference(table: str, name: str, text: str, columns: dict[str, Column]) -> Reference:
    """`rule (columns) -> parent (its columns)`."""
    where = f"{table}: reference {_identifier(name, table)}"
    found = REFERENCE.fullmatch(str(text))
    if not found:
        raise RegisterError(f"{where}: {text!r} is not `rule (columns) -> parent (its columns)`")
    rule, own, parent, theirs = found.groups()
    reference = Reference(name, tuple(own.split(", ")), parent, tuple(theirs.split(", ")), rule)
    _one_of(rule, REFERENCES, where)
    for column in set(reference.columns) - set(columns):
        raise RegisterError(f"{where}: {column!r} is not a column")
    if len(reference.columns) != len(reference.parent_columns):
        raise RegisterError(f"{where}: as many columns as its parent's are needed")
    return reference


def _check_parents(tables: dict[str, Table]) -> None:
    """References point to columns that the register knows."""
    for table in tables.values():
        for reference in table.references:
            parent = tables.get(reference.parent)
            if parent is None or not set(reference.parent_columns) <= set(parent.columns):
                raise RegisterError(f"{table.name}: reference {reference.name} points to nothing in {reference.parent}")


def _table(name: str, entry: dict[str, Any], recipients: dict[str, str]) -> Table:
    schema, _, relation = name.partition(".")
    _identifier(schema, name)
    _identifier(relation, name)
    default = _one_of(entry.get("erase", "delete_row"), ERASURES, name)
    columns = {column: _column(name, column, text, default) for column, text in entry["columns"].items()}
    return Table(
        name=name,
        controller=_one_of(entry["controller"], CONTROLLERS, name),
        subjects=tuple(_subject(name, subject, columns) for subject in entry["subjects"]),
        source=_one_of(entry["source"], SOURCES, name),
        purpose=entry["purpose"],
        legal_basis=entry["legal_basis"],
        recipients=tuple(_one_of(each, tuple(recipients), name) for each in entry["recipients"]),
        retention=_retention(name, entry["retention"], columns),
        references=tuple(_reference(name, key, text, columns) for key, text in entry.get("references", {}).items()),
        columns=columns,
    )


def parse(text: str) -> Register:
    """The register of a YAML text. Raises RegisterError; KeyError when a field is missing."""
    document = yaml.safe_load(text)
    recipients = document["recipients"]
    tables = {name: _table(name, entry, recipients) for name, entry in document["tables"].items()}
    _check_parents(tables)
    return Register(
        tables=tables,
        controllers=document["controllers"],
        recipients=recipients,
        rights=tuple(document["rights"]),
        transfers=document["transfers"],
        automated_decisions=document["automated_decisions"],
    )


@cache
def register() -> Register:
    """The register of this release."""
    return parse(SOURCE.read_text(encoding="utf-8"))
