"""The peers' database contents in our schema: tenants, a developer and a viewer each, projects; ids by md5."""

from argon2 import PasswordHasher

from bench.alone import connection
from bench.harness.site import ARGON2, USER_PASSWORD

STATEMENTS = (
    """
    INSERT INTO app.organizations (tenant_id, slug, name)
    SELECT md5('tenant' || t)::uuid, 'tenant-' || t, 'Tenant ' || t FROM generate_series(1, :tenants) t
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO identity.accounts (id, email, display_name, password_hash)
    SELECT md5(who || t)::uuid, who || t || '@example.com', who || ' ' || t, :password
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
    INSERT INTO identity.devices (account_id, token_hash, expires_at)
    SELECT md5('user' || t)::uuid, sha256(convert_to('device-' || t, 'UTF8')), now() + interval '300 days'
    FROM generate_series(1, :tenants) t ON CONFLICT DO NOTHING
    """,
    "SET session_replication_role = 'replica'",  # no foreign keys to check row by row
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
    "CHECKPOINT",
)


def seed(url: str, tenants: int, projects: int) -> None:
    """Fill an empty database; harmless when it is filled already."""
    password = PasswordHasher(**ARGON2).hash(USER_PASSWORD)
    known = {"tenants": tenants, "projects": projects, "password": password}
    with connection(url) as admin:
        for sql in STATEMENTS:
            admin.run(sql, **{name: value for name, value in known.items() if f":{name}" in sql})
