"""What each service of the catalog may do in the database before any migration names it, granted anew at each run.

So a function without tables of its own is a folder and an entry of the catalog; one with tables brings a migration.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pg8000.native
from pg8000.native import identifier

# Who answers people: the sealed context, the audit trail, idempotent answers, whom a provider's token means.
OF_PEOPLE = (
    "app.authorize_afresh(text)",
    "app.authorize(text)",
    "app.tenant_id()",
    "app.principal_id()",
    "app.append_audit(jsonb)",
    "app.recall_answer(bytea)",
    "app.keep_answer(bytea, bytea, integer, jsonb, text)",
    "app.record_refusal(uuid, uuid, uuid, text, text, text, text, jsonb)",
    "app.consented(text)",
    "identity.federated_account(text, text)",
)
OF_JOBS = ("app.authorize_afresh(text)", "app.authorize(text)")
SCHEMAS_OF_PEOPLE = ("app", "identity", "platform")
SCHEMAS_OF_JOBS = ("app", "platform")


def grant(connection: pg8000.native.Connection, entries: Iterable[Mapping[str, Any]]) -> None:
    """Grant the roles of these entries what every service needs: no table. The connection may be owner and definer."""
    for entry in entries:
        role = identifier(entry["role"])
        jobs = set(entry["kinds"]) == {"s"}
        connection.run("BEGIN")
        connection.run("SET LOCAL ROLE context_owner")
        connection.run(f"GRANT USAGE ON SCHEMA {', '.join(SCHEMAS_OF_JOBS if jobs else SCHEMAS_OF_PEOPLE)} TO {role}")
        connection.run("SET LOCAL ROLE context_definer")
        connection.run(f"GRANT EXECUTE ON FUNCTION {', '.join(OF_JOBS if jobs else OF_PEOPLE)} TO {role}")
        connection.run("COMMIT")
