"""The personal-data register: what every column holds, whose it is, and what export and erasure do with it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common import register_parts as parts
from common.register_parts import Activity, Measure, Place, Recipient, RegisterError
from common.register_tables import Column, Reference, Retention, Subject, Table, read_table

__all__ = [
    "Activity",
    "Column",
    "Measure",
    "Place",
    "Recipient",
    "Reference",
    "Register",
    "RegisterError",
    "Retention",
    "Subject",
    "Table",
    "parse",
    "register",
]
SOURCE = Path(__file__).with_name("register.yaml")


@dataclass(frozen=True)
class Register:
    """The whole register, validated."""

    tables: dict[str, Table]
    controllers: dict[str, str]
    people: dict[str, str]
    data: dict[str, str]
    activities: dict[str, Activity]
    parties: dict[str, Recipient]
    places: dict[str, Place]
    measures: tuple[Measure, ...]
    rights: tuple[str, ...]
    automated_decisions: str

    @property
    def recipients(self) -> dict[str, str]:
        """Each recipient in a sentence."""
        return {name: party.text for name, party in self.parties.items()}

    @property
    def transfers(self) -> str:
        """Art. 15(2): what leaves the European Union, and under which safeguards."""
        found = [f"{party.title}: {party.transfer}" for party in self.parties.values() if party.transfer]
        return " ".join(found) or "There are no transfers to third countries."

    def exported(self, *, of_tenant: bool) -> list[Table]:
        """The tables that a person's copy draws from: those of an organization, or the platform's own."""
        return [table for table in self.tables.values() if table.exported and table.of_tenant is of_tenant]

    def carried(self) -> list[Table]:
        """The tables that an organization's copy draws from."""
        return [table for table in self.tables.values() if table.carried]

    def about_people(self, *, of_tenant: bool) -> list[Table]:
        """The tables with subjects, which erasure has to visit."""
        return [table for table in self.tables.values() if table.subjects and table.of_tenant is of_tenant]


def _check(tables: dict[str, Table]) -> None:
    """Activities are of the tables' controllers, people have categories, references point to columns that are there."""
    for table in tables.values():
        if table.activity.controller != table.controller:
            raise RegisterError(f"{table.name}: activity {table.activity.name} is of the {table.activity.controller}")
        if table.subjects and not (table.people and table.data):
            raise RegisterError(f"{table.name}: who is in `people` and what in `data`, since it has subjects")
        for reference in table.references:
            parent = tables.get(reference.parent)
            if parent is None or not set(reference.parent_columns) <= set(parent.columns):
                raise RegisterError(f"{table.name}: reference {reference.name} points to nothing in {reference.parent}")


def parse(text: str) -> Register:
    """The register of a YAML text. Raises RegisterError; KeyError when a section is missing."""
    import yaml  # noqa: PLC0415 - 20 ms, and few processes ever read it

    document = yaml.CSafeLoader(text).get_single_data()
    activities = parts.activities(document["activities"])
    tables = {name: read_table(name, entry, document, activities) for name, entry in document["tables"].items()}
    _check(tables)
    return Register(
        tables=tables,
        controllers=document["controllers"],
        people=document["people"],
        data=document["data"],
        activities=activities,
        parties=parts.recipients(document["recipients"]),
        places=parts.places(document["places"], document, activities),
        measures=parts.measures(document["measures"]),
        rights=tuple(document["rights"]),
        automated_decisions=document["automated_decisions"],
    )


@cache
def register() -> Register:
    """The register of this release."""
    return parse(SOURCE.read_text(encoding="utf-8"))
