"""What the law wants told about the processing of personal data, computed from the register.

The data map, both records of Art. 30 and the information of Art. 15(1) and (2) GDPR. Nothing here reads a database; who
the operator is comes from the settings, or from the caller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from common.register import Activity, Place, Recipient, Subject, Table, register
from common.settings import settings

UNSTATED = "not stated by the operator (setting {})"
FROM = {
    "provided": "the person",
    "observed": "the person's use of the service",
    "derived": "computed by the service from the person's data",
}
PORTABLE = {
    True: "Art. 20 covers it: {source} data, processed by contract or consent, by automated means",
    False: "Art. 20 does not cover it: {why}",
    None: "Art. 20 covers it where the organization's basis is contract or consent; the copy has the form in any case",
}
STORAGE = Activity("storage", "Copies, logs and backups", "tenant", "Keep available what organizations store")


@dataclass(frozen=True)
class Operator:
    """Who runs this deployment; "" for what is not stated. `mail_provider` is the mail relay's company and place."""

    name: str = ""
    contact: str = ""
    representative: str = ""
    data_protection_officer: str = ""
    supervisory_authority: str = ""
    mail_provider: str = ""


def operator() -> Operator:
    """The operator as the settings state it."""
    known = settings()
    return Operator(
        name=known.operator_name,
        contact=known.operator_contact,
        representative=known.operator_representative,
        data_protection_officer=known.dpo_contact,
        supervisory_authority=known.supervisory_authority,
        mail_provider=known.mail_provider,
    )


def data_map(by: Operator | None = None) -> dict[str, Any]:
    """Where personal data are, whose, why, for how long, and what export and erasure do with them."""
    known, by = register(), by or operator()
    return {
        "operator": _named(by),
        "controllers": known.controllers,
        "people": known.people,
        "data": known.data,
        "activities": [_activity(activity) for activity in known.activities.values()],
        "recipients": [_recipient(party, by) for party in known.parties.values()],
        "tables": [_mapped(table) for table in known.tables.values()],
        "places": [_place(place) for place in known.places.values()],
        "transfers_to_third_countries": known.transfers,
    }


def records_of_processing(
    kind: str, by: Operator | None = None, controllers: Iterable[dict[str, str]] = ()
) -> dict[str, Any]:
    """The record of Art. 30(1), `kind` "controller", or of Art. 30(2), "processor".

    `controllers` are the organizations on whose behalf the operator acts, as {"name", "contact"}; without them the
    record says that every organization of the service is one. Raises KeyError for another kind.
    """
    known, by = register(), by or operator()
    law, controller = {"controller": ("Art. 30(1) GDPR", "platform"), "processor": ("Art. 30(2) GDPR", "tenant")}[kind]
    record: dict[str, Any] = {"record": law, kind: _named(by)}
    if kind == "processor":
        record["controllers"] = list(controllers) or [{"name": known.controllers["tenant"], "contact": ""}]
    kept = [_recorded(each, by) for each in known.activities.values() if each.controller == controller]
    if kind == "processor":
        kept.append(_summed(STORAGE, [place for place in known.places.values() if place.content], by))
    return record | {
        "activities": kept,
        "security_measures": [{"title": each.title, "text": each.text} for each in known.measures],
    }


def article_15(by: Operator | None = None) -> dict[str, Any]:
    """What Art. 15(1)(a) to (h) and (2) GDPR want told beside the data; `processing.json` of a package."""
    known, by = register(), by or operator()
    return {
        "operator": _named(by),
        "controllers": known.controllers,
        "recipients": {name: _text(party, by) for name, party in known.parties.items()},
        "transfers_to_third_countries": known.transfers,
        "automated_decisions": known.automated_decisions,
        "rights": list(known.rights),
        "supervisory_authority": by.supervisory_authority or "the one where you live or work, or of the operator",
        "data_categories": known.data,
        "processing": [_told(table, by) for table in known.tables.values() if table.subjects],
        "other_places": [_place(place) for place in known.places.values()],
    }


def collected_from(table: Table) -> str:
    """Art. 15(1)(g): from whom the data of a table are."""
    return table.origin or FROM[table.source]


def portability(table: Table) -> str:
    """Whether Art. 20 covers a table, in a sentence; `table.portable` is the same as a value."""
    why = "not processed by contract or consent"
    if table.source == "derived":
        why = "derived by the service, not provided"
    elif not table.exported:
        why = "not in the person's copy"
    return PORTABLE[table.portable].format(source=table.source, why=why)


def erasure(subject: Subject, table: Table) -> str:
    """What an erasure does with the rows of a subject, in a sentence."""
    done = {
        "delete_row": "the row is deleted",
        "null": f"{subject.column} is emptied",
        "pseudonym": f"the row stays, {subject.column} then points to nobody",
        "keep": "the row stays",
    }
    emptied = [column.name for column in table.columns.values() if column.erase == "null" != subject.erase]
    also = f" without {', '.join(emptied)}" if emptied and subject.erase == "keep" else ""
    policy = (
        "" if subject.policy_erase == subject.erase else f"; under the policy `erase`: {done[subject.policy_erase]}"
    )
    return done[subject.erase] + also + policy


def _named(by: Operator) -> dict[str, str]:
    """Art. 30(1)(a), (2)(a): name and contact of the operator, its representative and data-protection officer."""
    return {
        "name": by.name or UNSTATED.format("OPERATOR_NAME"),
        "contact": by.contact or UNSTATED.format("OPERATOR_CONTACT"),
        "representative": by.representative or "none stated; needed outside the European Union only (Art. 27)",
        "data_protection_officer": by.data_protection_officer or UNSTATED.format("DPO_CONTACT"),
    }


def _text(party: Recipient, by: Operator) -> str:
    stated = by.mail_provider if party.name == "mail" else ""
    return f"{party.text}: {stated}" if stated else party.text


def _recipient(party: Recipient, by: Operator) -> dict[str, Any]:
    return {
        "name": party.name,
        "text": _text(party, by),
        "kind": party.kind,
        "place": party.place,
        "given": party.given,
        "transfer": party.transfer,
    }


def _activity(activity: Activity) -> dict[str, str]:
    return {
        "name": activity.name,
        "title": activity.title,
        "controller": activity.controller,
        "purpose": activity.purpose,
    }


def _mapped(table: Table) -> dict[str, Any]:
    """A table of the data map."""
    return {
        "table": table.name,
        "controller": table.controller,
        "activity": table.activity.name,
        "purpose": table.purpose,
        "legal_basis": table.legal_basis,
        "source": table.source,
        "collected_from": collected_from(table),
        "people": list(table.people),
        "data": list(table.data),
        "subjects": [_subject(subject, table) for subject in table.subjects],
        "recipients": list(table.recipients),
        "storage_period": table.retention.text,
        "storage_ground": table.retention.ground,
        "portable": table.portable,
        "references": [
            {"name": each.name, "columns": list(each.columns), "parent": each.parent, "rule": each.rule}
            for each in table.references
        ],
        "columns": [
            {
                "name": each.name,
                "class": each.classification,
                "export": each.name in table.exported,
                "erase": each.erase,
            }
            for each in table.columns.values()
        ],
    }


def _subject(subject: Subject, table: Table) -> dict[str, Any]:
    return {
        "column": subject.column,
        "role": subject.role,
        "export": subject.export,
        "erase": subject.erase,
        "policy_erase": subject.policy_erase,
        "erasure": erasure(subject, table),
    }


def _place(place: Place) -> dict[str, Any]:
    """A place beside the tables."""
    return {
        "place": place.title,
        "controller": place.activity.controller,
        "activity": place.activity.name,
        "purpose": place.purpose,
        "legal_basis": place.legal_basis,
        "people": list(place.people),
        "data": list(place.data),
        "recipients": list(place.recipients),
        "storage_period": place.period,
        "storage_ground": place.ground,
        "erasure": place.erasure,
    }


def _told(table: Table, by: Operator) -> dict[str, Any]:
    """What a person is told about a table that may hold her data."""
    known = register()
    return {
        "table": table.relation,
        "controller": table.controller,
        "activity": table.activity.title,
        "your_role": [subject.role for subject in table.subjects],
        "purpose": table.purpose,
        "legal_basis": table.legal_basis,
        "data_categories": [known.data[name] for name in table.data],
        "source": table.source,
        "collected_from": collected_from(table),
        "portable": table.portable,
        "portability": portability(table),
        "recipients": [_text(known.parties[name], by) for name in table.recipients],
        "storage_period": table.retention.text,
        "storage_ground": table.retention.ground,
        "erasure": [erasure(subject, table) for subject in table.subjects],
        "in_this_package": list(table.exported),
        "not_in_this_package": [name for name in table.columns if name not in table.exported],
    }


def _recorded(activity: Activity, by: Operator) -> dict[str, Any]:
    """An activity of a record of Art. 30, with all its tables and places."""
    known = register()
    holders: list[Table | Place] = [*known.tables.values(), *known.places.values()]
    return _summed(activity, [each for each in holders if each.activity == activity and each.people], by)


def _summed(activity: Activity, holders: Sequence[Table | Place], by: Operator) -> dict[str, Any]:
    """What tables and places have together."""
    known = register()
    parties = [known.parties[name] for name in known.parties if any(name in each.recipients for each in holders)]
    return {
        "activity": activity.name,
        "title": activity.title,
        "purposes": list(dict.fromkeys([activity.purpose, *(each.purpose for each in holders)])),
        "legal_bases": list(dict.fromkeys(each.legal_basis for each in holders)),
        "data_subjects": [text for name, text in known.people.items() if any(name in each.people for each in holders)],
        "data_categories": [text for name, text in known.data.items() if any(name in each.data for each in holders)],
        "recipients": [_text(party, by) for party in parties],
        "transfers": [f"{party.title}: {party.transfer}" for party in parties if party.transfer],
        "time_limits": [_limit(each) for each in holders],
    }


def _limit(holder: Table | Place) -> dict[str, str]:
    """Art. 30(1)(f): when data are erased."""
    if isinstance(holder, Place):
        return {"of": holder.title, "period": holder.period, "ground": holder.ground}
    return {"of": holder.name, "period": holder.retention.text, "ground": holder.retention.ground}
