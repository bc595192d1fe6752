"""The organization itself: literal SQL, one function per query."""

import json
from typing import Any

from common import errors
from common.db import Tx, Written


def select_organization(tx: Tx) -> Written:
    """The caller's organization."""
    organization = tx.written(
        "SELECT tenant_id, app.organization_json(o), version FROM app.organizations o WHERE tenant_id = :tenant_id"
    )
    if organization is None:
        raise errors.not_found()
    return organization


def update_organization(tx: Tx, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed organization. Raises 412."""
    organization = tx.written(
        """
        UPDATE app.organizations AS o
        SET name = coalesce(:name, o.name), settings = coalesce(CAST(:settings AS jsonb), o.settings),
            updated_at = now(), version = o.version + 1
        WHERE o.tenant_id = :tenant_id AND (CAST(:if_match AS integer) IS NULL OR o.version = :if_match)
        RETURNING o.tenant_id, app.organization_json(o), o.version
        """,
        name=change.get("name"),
        settings=json.dumps(change["settings"]) if "settings" in change else None,
        if_match=if_match,
    )
    if organization is None:
        raise errors.Problem("precondition_failed")
    return organization
