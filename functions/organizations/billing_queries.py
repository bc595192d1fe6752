"""Billing address and invoices: literal SQL, one function per query."""

from typing import Any

from common import errors, pagination
from common.db import Tx, Written


def select_billing(tx: Tx) -> Written:
    """The organization's billing address; without a row nothing was told yet, which is version 1."""
    billing = tx.written(
        """
        SELECT o.tenant_id,
               json_build_object('company', b.company, 'address', b.address, 'vat_id', b.vat_id, 'email', b.email,
                                 'version', coalesce(b.version, 1)),
               coalesce(b.version, 1)
        FROM app.organizations o LEFT JOIN app.billing b ON b.tenant_id = o.tenant_id
        WHERE o.tenant_id = :tenant_id
        """
    )
    if billing is None:
        raise errors.not_found()
    return billing


def update_billing(tx: Tx, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed billing address; fields that the change does not name stay. Raises 412."""
    billing = tx.written(
        """
        INSERT INTO app.billing AS b (tenant_id, company, address, vat_id, email)
        SELECT :tenant_id, :company, :address, :vat_id, :email
        WHERE CAST(:if_match AS integer) IS NULL
            OR coalesce((SELECT version FROM app.billing WHERE tenant_id = :tenant_id), 1) = :if_match
        ON CONFLICT (tenant_id) DO UPDATE
        SET company = CASE WHEN :names_company THEN excluded.company ELSE b.company END,
            address = CASE WHEN :names_address THEN excluded.address ELSE b.address END,
            vat_id = CASE WHEN :names_vat_id THEN excluded.vat_id ELSE b.vat_id END,
            email = CASE WHEN :names_email THEN excluded.email ELSE b.email END,
            updated_at = now(), version = b.version + 1
        WHERE CAST(:if_match AS integer) IS NULL OR b.version = :if_match
        RETURNING b.tenant_id,
            json_build_object('company', b.company, 'address', b.address, 'vat_id', b.vat_id, 'email', b.email,
                              'version', b.version),
            b.version
        """,
        if_match=if_match,
        **{name: change.get(name) for name in ("company", "address", "vat_id", "email")},
        **{f"names_{name}": name in change for name in ("company", "address", "vat_id", "email")},
    )
    if billing is None:
        raise errors.Problem("precondition_failed")
    return billing


def list_invoices(tx: Tx, *, limit: int, after: list[str] | None, status: str | None) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(issued_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT json_build_object(
                       'id', i.id, 'number', i.number, 'issued_at', platform.utc(i.issued_at), 'total', i.total,
                       'currency', i.currency, 'status', i.status) AS item,
                   i.issued_at, i.id, row_number() OVER (ORDER BY i.issued_at DESC, i.id DESC) AS n
            FROM app.invoices i
            WHERE i.tenant_id = :tenant_id
                AND (i.issued_at, i.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:status AS text) IS NULL OR i.status = :status)
            ORDER BY i.issued_at DESC, i.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        status=status,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None
