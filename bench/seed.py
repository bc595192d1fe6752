"""The peers' database contents in our schema: tenants, a developer and a viewer each, projects; ids by md5."""

import hashlib
import uuid
from urllib.parse import unquote, urlsplit

import pg8000.native

STATEMENTS = (
    """
    INSERT INTO app.organizations (tenant_id, slug, name)
    SELECT md5('tenant' || t)::uuid, 'tenant-' || t, 'Tenant ' || t FROM generate_series(1, :tenants) t
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO identity.accounts (id, email, display_name)
    SELECT md5(who || t)::uuid, who || t || '@example.com', who || ' ' || t
    FROM generate_series(1, :tenants) t, unnest(ARRAY['user', 'viewer']) who ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO app.members (tenant_id, user_id, role)
    SELECT md5('tenant' || t)::uuid, md5(who || t)::uuid, CASE who WHEN 'user' THEN 'developer' ELSE 'viewer' END
    FROM generate_series(1, :tenants) t, unnest(ARRAY['user', 'viewer']) who ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)
    SELECT md5('session-' || who || t)::uuid, md5(who || t)::uuid, md5('tenant' || t)::uuid, '{pwd}',
           now() + interval '30 days'
    FROM generate_series(1, :tenants) t, unnest(ARRAY['user', 'viewer']) who ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO app.projects (tenant_id, id, name, description, status, created_by, created_at, updated_at)
    SELECT md5('tenant' || t)::uuid, md5('project' || t || '/' || p)::uuid, 'Project ' || p || ' of tenant ' || t,
           'Quarterly plan ' || p || ': ' || repeat('scope, owners and dates; ', 1 + p % 7),
           (ARRAY['active', 'active', 'archived'])[1 + p % 3], md5('user' || t)::uuid, c, c
    FROM generate_series(1, :tenants) t, generate_series(1, :projects) p,
         LATERAL (SELECT timestamptz '2025-01-01' + make_interval(mins => p * 37, secs => t) AS c) x
    ON CONFLICT DO NOTHING
    """,
    "VACUUM ANALYZE",
)


def identifier(label: str) -> str:
    """The seeded id of a label such as `tenant1`."""
    return str(uuid.UUID(hashlib.md5(label.encode(), usedforsecurity=False).hexdigest()))


def seed(url: str, tenants: int, projects: int) -> None:
    """Fill an empty database; harmless when it is filled already."""
    part = urlsplit(url)
    with pg8000.native.Connection(
        unquote(part.username or ""),
        password=unquote(part.password or ""),
        host=part.hostname or "",
        port=part.port or 5432,
        database=part.path.lstrip("/"),
        ssl_context=False,
    ) as connection:
        for sql in STATEMENTS:
            known = {"tenants": tenants, "projects": projects}
            connection.run(sql, **{name: value for name, value in known.items() if f":{name}" in sql})
