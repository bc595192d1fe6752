"""What an incident touched: from the audit chain and a time range to subjects and categories of data."""

from typing import Any

from common import errors, pagination
from common.http import Call, Json, Table
from common.register import Place, register
from common.register import Table as RegisteredTable
from common.settings import settings
from functions.audit import incident_scope_queries as queries
from functions.audit.incident_schemas import Incident, Range, Scope, ScopeQuery
from functions.audit.incidents import INCIDENT, NEEDS

part = Table()


@part.on("GET", f"{INCIDENT}/scope", needs=NEEDS, query=ScopeQuery, body=None, answers=Scope, records=True)
def get_scope(call: Call) -> Json:
    """Read what the events of a time range touched: whose data, and which categories; reading it is an event itself.

    A list that was read counts for everybody who stood on it. `data_classes` is a suggestion: POST makes the scope the
    incident's. What leaves no event, such as reading projects and tasks, is not in it.
    """
    query, incident_id = call.query, call.path["incident_id"]
    facts, count, people, last = queries.select_scope(
        call.tx, incident_id, limit=query["limit"], after=call.after(), **_bounds(query)
    )
    call.audit("incident.scoped", incident_id, events=facts["events"], subjects=count)
    return _shown(call, facts) | {"subject_count": count, "subjects": people, "next_cursor": _cursor(call, last)}


@part.on("POST", f"{INCIDENT}/scope", needs=NEEDS, body=Range, answers=Incident, errors=("conflict",))
def keep_scope(call: Call) -> Json:
    """Make a time range the incident's scope, in the place of an earlier one.

    Its numbers stand in `scope`, its people are those who can be told, and its data classes join those that the
    incident has. The address itself is not kept.
    """
    incident_id, bounds = call.path["incident_id"], _bounds(call.body)
    facts = queries.select_facts(call.tx, **bounds)
    classes = data_classes([each["type"] for each in facts["resources"]])
    outcome, incident = queries.keep_scope(call.tx, incident_id, events=facts["events"], classes=classes, **bounds)
    if outcome == "closed":
        raise errors.conflict("conflict", "The incident is closed: set its status to open or contained first.")
    if outcome != "done" or incident is None:
        raise errors.not_found()
    call.audit("incident.scope_kept", incident_id, events=facts["events"])
    return incident


def _bounds(given: dict[str, Any]) -> dict[str, Any]:
    actor = given["actor"]
    return {"since": given["from_"], "until": given["to"], "who": actor and str(actor), "network": given["ip"]}


def tables_of(kind: str) -> list[str]:
    """The tables that hold resources of a type, by the register."""
    return sorted(table.name for table in register().tables.values() if kind in table.resource)


def data_classes(kinds: list[str]) -> list[str]:
    """Categories of personal data in what holds resources of these types: tables, and places such as files."""
    return _classes(kinds, "data")


def _classes(kinds: list[str], field: str) -> list[str]:
    known = register()
    holders: list[RegisteredTable | Place] = [*known.tables.values(), *known.places.values()]
    return sorted({word for each in holders if set(kinds) & set(each.resource) for word in getattr(each, field)})


def _shown(call: Call, facts: dict[str, Any]) -> dict[str, Any]:
    kinds = [each["type"] for each in facts["resources"]]
    return {
        "from": call.query["from_"].isoformat().replace("+00:00", "Z"),
        "to": call.query["to"].isoformat().replace("+00:00", "Z"),
        **facts,
        "resources": [each | {"tables": tables_of(each["type"])} for each in facts["resources"]],
        "data_classes": _classes(kinds, "data"),
        "people_classes": _classes(kinds, "people"),
    }


def _cursor(call: Call, last: list[str] | None) -> str | None:
    if last is None:
        return None
    filters = {name: value for name, value in call.query.items() if name not in {"cursor", "limit"}}
    cursor = pagination.encode(last, call.caller.tenant_id, call.request.path, filters)
    again = {
        ("from" if name == "from_" else name): value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in call.query.items()
    }
    call.headers["Link"] = pagination.next_link(settings().public_url + call.request.path, again, cursor)
    return cursor
