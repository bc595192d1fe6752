"""The tables of the register: columns, subjects, retention and references, and how their short forms are read."""

import re
from dataclasses import dataclass, field
from typing import Any

from common.register_parts import CONTROLLERS, Activity, RegisterError, each_of, given, identifier, one_of

CLASSES = ("public", "internal", "restricted", "confidential")
SENSITIVE = ("restricted", "confidential")
ERASURES = ("delete_row", "null", "pseudonym", "keep")
MATCHES = ("account", "email", "text", "key", "mention", "row")
SOURCES = ("provided", "observed", "derived")
PARTITIONS = ("day", "month")
REFERENCES = ("with_parent", "keep_parent", "null")
REFERENCE = re.compile(r"(\w+) \(([\w, ]+)\) -> ([\w.]+) \(([\w, ]+)\)")
GROUNDS = re.compile(r"Art\. 6\(1\)\(([a-f])\)")


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
    with `match` mention a text that holds the e-mail address, with `match` row the id of a row about her in `of`.
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
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Retention:
    """`period` is a PostgreSQL interval counted from column `after`; without one, `until` says when it ends.

    With `partitions` the table is partitioned by that column, by day or month (UTC), and goes by whole partitions.
    """

    period: str | None
    after: str | None
    until: str | None
    ground: str
    partitions: str | None = None

    @property
    def text(self) -> str:
        """The rule as a person reads it."""
        if not self.period:
            return f"until {self.until}"
        return f"{self.period} after {self.after}" + (f", by whole {self.partitions}s" if self.partitions else "")


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
    """One table; `name` is schema.relation; `resource` says which column an audit event's resource id stands in."""

    name: str
    controller: str
    activity: Activity
    people: tuple[str, ...]
    data: tuple[str, ...]
    subjects: tuple[Subject, ...]
    source: str
    origin: str | None
    purpose: str
    legal_basis: str
    recipients: tuple[str, ...]
    retention: Retention
    references: tuple[Reference, ...]
    columns: dict[str, Column]
    whole: str = "delete_row"
    resource: dict[str, str] = field(default_factory=dict)

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
    def grounds(self) -> tuple[str, ...]:
        """The letters of Art. 6(1) that the legal basis names, in its order."""
        return tuple(GROUNDS.findall(self.legal_basis))

    @property
    def portable(self) -> bool | None:
        """Whether Art. 20 covers the copy: provided or observed data, by consent or contract; None: the tenant's basis.

        Source: Art. 20(1) GDPR; observed data count as provided (WP 242 rev.01, section II).
        """
        if self.source == "derived" or not self.exported:
            return False
        return None if self.controller == "tenant" else bool({"a", "b"} & set(self.grounds))

    @property
    def exported(self) -> tuple[str, ...]:
        """The columns of a person's copy, in the table's order; none when no subject of the table gets a copy."""
        if not any(subject.export for subject in self.subjects):
            return ()
        return tuple(column.name for column in self.columns.values() if column.export)

    @property
    def circumstances(self) -> tuple[str, ...]:
        """Addresses and the like that we observed: a copy shows them to the person whose act it was, to nobody else."""
        found = (column for column in self.columns.values() if column.classification == "confidential")
        return tuple(column.name for column in found if column.export and self.source == "observed")

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns of an organization's copy, in the table's order; none where rows belong to no organization."""
        found = (column.name for column in self.columns.values() if column.export and self.of_tenant)
        return tuple(name for name in found if name not in self.circumstances)


def _column(table: str, name: str, text: str, default: str) -> Column:
    """`class [export] [erasure]`."""
    where = f"{table}.{identifier(name, table)}"
    words = str(text).split()
    classification = one_of(words.pop(0), CLASSES, where)
    export = words[:1] == ["export"]
    rest = words[1:] if export else words
    if len(rest) > 1:
        raise RegisterError(f"{where}: {text!r} has too many words")
    return Column(name, classification, export, one_of(rest[0] if rest else default, ERASURES, where))


def _subject(table: str, entry: dict[str, Any], columns: dict[str, Column]) -> Subject:
    for column in {entry["column"], entry.get("without", entry["column"])} - set(columns):
        raise RegisterError(f"{table}: subject column {column!r} is not a column")
    erase = one_of(entry["erase"], ERASURES, table)
    return Subject(
        column=entry["column"],
        role=entry["role"],
        export=bool(entry.get("export", True)),
        erase=erase,
        policy_erase=one_of(entry.get("policy_erase", erase), ERASURES, table),
        match=one_of(entry.get("match", "account"), MATCHES, table),
        without=entry.get("without"),
        of=tuple(entry.get("of", ())),
    )


def _retention(table: str, entry: dict[str, str], columns: dict[str, Column]) -> Retention:
    parts = entry.get("partitions")
    found = Retention(entry.get("period"), entry.get("after"), entry.get("until"), entry["ground"], parts)
    if bool(found.period) == bool(found.until) or (found.period and found.after not in columns):
        raise RegisterError(f"{table}: retention needs either a period after one of its columns, or an end")
    if parts is not None and one_of(parts, PARTITIONS, table) and not found.period:
        raise RegisterError(f"{table}: partitions need a period")
    return found


def _reference(table: str, name: str, text: str, columns: dict[str, Column]) -> Reference:
    """`rule (columns) -> parent (its columns)`."""
    where = f"{table}: reference {identifier(name, table)}"
    found = REFERENCE.fullmatch(str(text))
    if not found:
        raise RegisterError(f"{where}: {text!r} is not `rule (columns) -> parent (its columns)`")
    rule, own, parent, theirs = found.groups()
    reference = Reference(name, tuple(own.split(", ")), parent, tuple(theirs.split(", ")), rule)
    one_of(rule, REFERENCES, where)
    for column in set(reference.columns) - set(columns):
        raise RegisterError(f"{where}: {column!r} is not a column")
    if len(reference.columns) != len(reference.parent_columns):
        raise RegisterError(f"{where}: as many columns as its parent's are needed")
    return reference


def read_table(name: str, entry: dict[str, Any], document: dict[str, Any], activities: dict[str, Activity]) -> Table:
    """An entry of section `tables`; its words are those of the whole document. Raises RegisterError."""
    schema, _, relation = name.partition(".")
    identifier(schema, name)
    identifier(relation, name)
    default = one_of(entry.get("erase", "delete_row"), ERASURES, name)
    columns = {column: _column(name, column, text, default) for column, text in given(entry, "columns", name).items()}
    return Table(
        name=name,
        controller=one_of(given(entry, "controller", name), CONTROLLERS, name),
        activity=activities[one_of(given(entry, "activity", name), tuple(activities), name)],
        people=each_of(given(entry, "people", name), tuple(document["people"]), name),
        data=each_of(given(entry, "data", name), tuple(document["data"]), name),
        subjects=tuple(_subject(name, subject, columns) for subject in given(entry, "subjects", name)),
        source=one_of(given(entry, "source", name), SOURCES, name),
        origin=entry.get("origin"),
        purpose=given(entry, "purpose", name),
        legal_basis=given(entry, "legal_basis", name),
        recipients=each_of(given(entry, "recipients", name), tuple(document["recipients"]), name),
        retention=_retention(name, given(entry, "retention", name), columns),
        references=tuple(_reference(name, key, text, columns) for key, text in entry.get("references", {}).items()),
        columns=columns,
        whole=one_of(entry.get("whole", "delete_row"), ("delete_row", "keep"), name),
        resource=_resource(name, entry.get("resource", {}), columns),
    )


def _resource(table: str, entry: dict[str, str], columns: dict[str, Column]) -> dict[str, str]:
    """Types of resources in audit events, and the column that such an event's resource id stands in."""
    for kind, column in entry.items():
        identifier(kind, table)
        if column not in columns:
            raise RegisterError(f"{table}: resource {kind} stands in {column!r}, which is not a column")
    return dict(entry)
