-- Organizations are the tenants; members and their roles; what a credential is worth.

CREATE TABLE platform.roles (
    name text PRIMARY KEY,
    permissions text[] NOT NULL
);
INSERT INTO platform.roles (name, permissions)
WITH codes (code) AS (
    SELECT unnest(ARRAY[
        'organizations.view', 'organizations.edit', 'organizations.delete', 'users.invite', 'users.remove',
        'user.manage', 'team.manage', 'role.manage', 'apikey.manage', 'billing.view', 'billing.edit',
        'project.view', 'project.create', 'project.update', 'project.delete',
        'task.view', 'task.create', 'task.update', 'task.delete',
        'session.view', 'session.create', 'session.update', 'session.delete',
        'consent.manage', 'export.create', 'deletion.create', 'legalhold.manage', 'audit.view', 'incident.manage'])
)
SELECT 'owner', array_agg(code) FROM codes
UNION ALL
SELECT 'admin', array_agg(code) FROM codes WHERE code NOT IN ('organizations.delete', 'billing.edit')
UNION ALL
SELECT 'developer', array_agg(code) FROM codes
WHERE code IN ('organizations.view', 'project.view', 'project.create', 'project.update')
    OR code LIKE 'task.%' OR code LIKE 'session.%'
UNION ALL
SELECT 'member', array_agg(code) FROM codes
WHERE code IN ('organizations.view', 'project.view', 'task.view', 'task.create', 'task.update',
               'session.view', 'session.create', 'session.update')
UNION ALL
SELECT 'viewer', array_agg(code) FROM codes
WHERE code IN ('organizations.view', 'project.view', 'task.view', 'session.view');

CREATE TABLE app.organizations (
    tenant_id uuid PRIMARY KEY,
    slug text NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    settings jsonb NOT NULL DEFAULT '{}',
    suspended_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1
);

CREATE TABLE app.members (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    user_id uuid NOT NULL,
    role text NOT NULL REFERENCES platform.roles (name),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX members_by_user ON app.members (user_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['organizations', 'members'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON app.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON app.%I TO context_definer', name);
    END LOOP;
END
$$;
ALTER TABLE platform.roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.roles FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON platform.roles FOR SELECT USING (true);
GRANT SELECT ON platform.roles TO context_definer;
ALTER TABLE app.organizations ALTER COLUMN slug SET STATISTICS 0;
ALTER TABLE app.organizations ALTER COLUMN name SET STATISTICS 0;

GRANT USAGE ON SCHEMA app TO auth_fn, organizations_fn, projects_fn, exports_fn, exports_jobs_fn, deletions_fn,
    deletions_jobs_fn, audit_fn, retention_fn;
GRANT SELECT, UPDATE ON app.organizations TO organizations_fn;
GRANT SELECT ON app.members TO organizations_fn;
GRANT SELECT (tenant_id, user_id) ON app.members TO projects_fn;

CREATE FUNCTION app.organization_json(o app.organizations) RETURNS text
LANGUAGE sql STABLE
RETURN json_build_object('id', o.tenant_id, 'slug', o.slug, 'name', o.name, 'settings', o.settings,
                         'version', o.version)::text;

-- Every organization of the sealed principal, oldest membership first: [{id, slug, name, role}] as JSON text.
CREATE FUNCTION identity.organizations() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('id', o.tenant_id, 'slug', o.slug, 'name', o.name, 'role', m.role)
                             ORDER BY m.created_at, m.tenant_id), '[]')::text
    FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
    WHERE m.user_id = app.principal_id() AND o.suspended_at IS NULL
$$;

-- The members' directory of the sealed organization: names and addresses stand in the global accounts.
CREATE FUNCTION app.member_people() RETURNS TABLE (user_id uuid, email text, display_name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.email, a.display_name
    FROM app.members m JOIN identity.accounts a ON a.id = m.user_id
    WHERE m.tenant_id = app.tenant_id()
$$;

-- The mailbox has answered: the pending registration becomes an account with an organization of its own.
-- The proof is the hash of the mailed token. `proved` says that the browser or the password was right as well;
-- without it the password hash comes back for the caller to check, and nothing changes.
CREATE FUNCTION identity.activate_registration(mailed bytea, browser bytea, proved boolean)
RETURNS TABLE (outcome text, account_id uuid, tenant_id uuid, password_hash text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pending identity.registrations;
    new_account uuid := gen_random_uuid();
    new_tenant uuid := gen_random_uuid();
BEGIN
    SELECT * INTO pending FROM identity.registrations r WHERE r.token_hash = mailed AND app.is_nobody() FOR UPDATE;
    IF NOT FOUND OR pending.expires_at <= now() THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid, NULL::uuid, NULL::text;
    ELSIF NOT proved AND (browser IS NULL OR sha256(pending.browser_hash) <> sha256(browser)) THEN
        RETURN QUERY SELECT 'password_required', NULL::uuid, NULL::uuid, pending.password_hash;
    ELSE
        INSERT INTO identity.accounts (id, email, display_name, password_hash)
        VALUES (new_account, pending.email, pending.display_name, pending.password_hash);
        INSERT INTO app.organizations (tenant_id, slug, name)
        VALUES (new_tenant,
                concat_ws('-', nullif(trim(BOTH '-' FROM regexp_replace(lower(left(pending.organization_name, 40)),
                                                                       '[^a-z0-9]+', '-', 'g')), ''),
                          left(new_tenant::text, 8)),
                pending.organization_name);
        INSERT INTO app.members (tenant_id, user_id, role) VALUES (new_tenant, new_account, 'owner');
        DELETE FROM identity.registrations r WHERE r.email = pending.email;
        RETURN QUERY SELECT 'activated', new_account, new_tenant, NULL::text;
    END IF;
END
$$;

-- What the caller's credential is worth now: role and permissions as JSON text.
-- Raises CX401 when it is dead, CX403 when the organization is suspended.
CREATE FUNCTION app.credential(kind text, tenant uuid, principal uuid, login_session uuid, signs_in boolean)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer text;
    suspended timestamptz;
BEGIN
    IF kind = 's' THEN
        RETURN app.job_credential(tenant, principal);
    ELSIF kind <> 'u' THEN
        RAISE EXCEPTION 'unknown kind of credential' USING ERRCODE = 'CX401';
    ELSIF tenant IS NULL AND principal IS NULL AND login_session IS NULL THEN
        RETURN '{}'; -- nobody: sees nothing but what a definer function gives for a secret that the caller shows
    END IF;
    PERFORM FROM identity.accounts a WHERE a.id = principal AND (a.status = 'active' OR (signs_in AND login_session IS NULL));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such account' USING ERRCODE = 'CX401';
    END IF;
    IF NOT (signs_in AND login_session IS NULL) THEN
        PERFORM FROM identity.login_sessions s
        WHERE s.id = login_session AND s.account_id = principal AND s.revoked_at IS NULL
            AND s.expires_at > clock_timestamp();
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the login session has ended' USING ERRCODE = 'CX401';
        END IF;
    END IF;
    IF tenant IS NULL THEN
        RETURN '{"role": null, "permissions": []}';
    END IF;
    SELECT json_build_object('role', m.role, 'permissions', r.permissions)::text, o.suspended_at
    INTO answer, suspended
    FROM app.members m
    JOIN app.organizations o ON o.tenant_id = m.tenant_id
    JOIN platform.roles r ON r.name = m.role
    WHERE m.tenant_id = tenant AND m.user_id = principal;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a member any more' USING ERRCODE = 'CX401';
    ELSIF suspended IS NOT NULL THEN
        RAISE EXCEPTION 'the organization is suspended' USING ERRCODE = 'CX403';
    END IF;
    RETURN answer;
END
$$;

ALTER FUNCTION identity.organizations() OWNER TO context_definer;
ALTER FUNCTION app.member_people() OWNER TO context_definer;
ALTER FUNCTION identity.activate_registration(bytea, bytea, boolean) OWNER TO context_definer;
ALTER FUNCTION app.credential(text, uuid, uuid, uuid, boolean) OWNER TO context_definer;
GRANT EXECUTE ON FUNCTION app.organization_json(app.organizations) TO organizations_fn;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.put_context_key(text, name, text[], boolean, bytea),
    platform.retire_context_keys(name, text[]) TO context_owner;
GRANT EXECUTE ON FUNCTION app.authorize(text), app.tenant_id(), app.principal_id()
    TO auth_fn, organizations_fn, projects_fn, exports_fn, exports_jobs_fn, deletions_fn, deletions_jobs_fn,
    audit_fn, retention_fn, context_owner;
GRANT EXECUTE ON FUNCTION identity.account_by_email(text), identity.lock_refresh_family(bytea),
    identity.activate_registration(bytea, bytea, boolean), identity.organizations(), app.is_nobody() TO auth_fn;
GRANT EXECUTE ON FUNCTION app.member_people() TO organizations_fn;
SET LOCAL ROLE context_owner;
