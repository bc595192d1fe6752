"""API keys: literal SQL, one function per query. The function's login cannot read a hash."""

from datetime import datetime

from common import errors, pagination
from common.db import Tx, Written


def select_codes(tx: Tx) -> frozenset[str]:
    """Every permission code there is: the owner's."""
    return frozenset(tx.value("SELECT permissions FROM platform.roles WHERE name = 'owner'"))


def insert_api_key(
    tx: Tx, *, name: str, prefix: str, key_hash: str, permissions: list[str], expires_at: datetime
) -> Written:
    """The new key of the caller, as lists show it."""
    made = tx.written(
        """
        INSERT INTO app.api_keys AS k (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)
        VALUES (:tenant_id, :name, :prefix, CAST(:key_hash AS uuid), CAST(:permissions AS text[]), :user_id,
                :expires_at)
        RETURNING k.id,
            json_build_object(
                'id', k.id, 'name', k.name, 'prefix', k.prefix, 'permissions', k.permissions,
                'created_by', k.created_by, 'created_at', platform.utc(k.created_at),
                'expires_at', platform.utc(k.expires_at), 'version', k.version),
            k.version
        """,
        name=name,
        prefix=prefix,
        key_hash=key_hash,
        permissions=permissions,
        expires_at=expires_at,
    )
    if made is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return made


def list_api_keys(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT json_build_object(
                       'id', k.id, 'name', k.name, 'prefix', k.prefix, 'permissions', k.permissions,
                       'created_by', k.created_by, 'created_at', platform.utc(k.created_at),
                       'expires_at', platform.utc(k.expires_at), 'version', k.version) AS item,
                   k.created_at, k.id, row_number() OVER (ORDER BY k.created_at DESC, k.id DESC) AS n
            FROM app.api_keys k
            WHERE k.tenant_id = :tenant_id
                AND (k.created_at, k.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY k.created_at DESC, k.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def delete_api_key(tx: Tx, key_id: str, if_match: int | None) -> None:
    """Delete a key of the organization: it stops working at once. Raises 404, 412."""
    deleted = tx.row(
        """
        DELETE FROM app.api_keys
        WHERE tenant_id = :tenant_id AND id = :key_id
            AND (CAST(:if_match AS integer) IS NULL OR version = :if_match)
        RETURNING id
        """,
        key_id=key_id,
        if_match=if_match,
    )
    if deleted is not None:
        return
    if tx.row("SELECT id FROM app.api_keys WHERE tenant_id = :tenant_id AND id = :key_id", key_id=key_id) is None:
        raise errors.not_found()
    raise errors.Problem("precondition_failed")
