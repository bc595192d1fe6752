-- Accounts, credentials, login sessions: global, visible to the sealed principal alone.

CREATE TABLE identity.accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text NOT NULL CONSTRAINT accounts_email_taken UNIQUE CHECK (length(email) <= 254),
    display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 255),
    password_hash text,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'frozen')),
    email_verified_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1
);

-- A registration is nothing but a claim until the mailbox has answered; each has a row of its own.
CREATE TABLE identity.registrations (
    id uuid PRIMARY KEY,
    email text NOT NULL CHECK (length(email) <= 254),
    display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 255),
    organization_name text NOT NULL CHECK (length(organization_name) BETWEEN 1 AND 255),
    password_hash text NOT NULL,
    consents jsonb NOT NULL DEFAULT '[]',
    browser_hash bytea NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX registrations_by_email ON identity.registrations (email);

-- A login session is also the family of its refresh tokens: `tip` is the generation that is current.
CREATE TABLE identity.login_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    tenant_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    auth_time timestamptz NOT NULL DEFAULT now(),
    amr text[] NOT NULL,
    ip inet,
    user_agent text CHECK (length(user_agent) <= 512),
    tip integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX login_sessions_by_account ON identity.login_sessions (account_id);

CREATE TABLE identity.refresh_tokens (
    token_hash bytea PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    login_session_id uuid NOT NULL REFERENCES identity.login_sessions ON DELETE CASCADE,
    generation integer NOT NULL,
    kid text, -- the version of the refresh key that made it, so that a rotated key still leads to the next one
    created_at timestamptz NOT NULL DEFAULT now(),
    first_used_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_by_session ON identity.refresh_tokens (login_session_id);
CREATE INDEX refresh_tokens_by_account ON identity.refresh_tokens (account_id);
CREATE INDEX refresh_tokens_by_expiry ON identity.refresh_tokens (expires_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['accounts', 'registrations', 'login_sessions', 'refresh_tokens'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON identity.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON identity.%I TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY principal ON identity.accounts
    USING (id = (SELECT app.principal_id())) WITH CHECK (id = (SELECT app.principal_id()));
CREATE POLICY principal ON identity.login_sessions
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
CREATE POLICY principal ON identity.refresh_tokens
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
CREATE POLICY registration ON identity.registrations FOR INSERT TO auth_fn WITH CHECK ((SELECT app.is_nobody()));

ALTER TABLE identity.accounts ALTER COLUMN email SET STATISTICS 0;
ALTER TABLE identity.accounts ALTER COLUMN display_name SET STATISTICS 0;
ALTER TABLE identity.accounts ALTER COLUMN password_hash SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN email SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN display_name SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN organization_name SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN password_hash SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN browser_hash SET STATISTICS 0;
ALTER TABLE identity.registrations ALTER COLUMN token_hash SET STATISTICS 0;
ALTER TABLE identity.login_sessions ALTER COLUMN ip SET STATISTICS 0;
ALTER TABLE identity.login_sessions ALTER COLUMN user_agent SET STATISTICS 0;
ALTER TABLE identity.refresh_tokens ALTER COLUMN token_hash SET STATISTICS 0;

GRANT USAGE ON SCHEMA identity TO auth_fn;
GRANT SELECT, UPDATE (display_name, password_hash, updated_at, version) ON identity.accounts TO auth_fn;
GRANT SELECT, INSERT, UPDATE ON identity.login_sessions TO auth_fn;
GRANT SELECT, INSERT, UPDATE ON identity.refresh_tokens TO auth_fn;
GRANT INSERT ON identity.registrations TO auth_fn;

-- Before log-in few one-row look-ups exist, each for a transaction that is sealed for nobody; these are two of them.

-- Look-up by e-mail: the account or, while there is none, the newest pending registration (then without an id).
-- The organizations come live ones first, then the oldest membership; `live` is how many are not suspended.
CREATE FUNCTION identity.account_by_email(wanted text)
RETURNS TABLE (account_id uuid, password_hash text, status text, organizations text[], live integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.password_hash, a.status, m.organizations, m.live
    FROM identity.accounts a
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(o.tenant_id::text ORDER BY o.suspended_at IS NOT NULL, m.created_at, m.tenant_id),
                        '{}') AS organizations,
               count(*) FILTER (WHERE o.suspended_at IS NULL)::integer AS live
        FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
        WHERE m.user_id = a.id
    ) AS m
    WHERE a.email = wanted AND app.is_nobody()
    UNION ALL
    (SELECT NULL, r.password_hash, 'pending', '{}', 0
     FROM identity.registrations r
     WHERE r.email = wanted AND r.expires_at > now() AND app.is_nobody()
         AND NOT EXISTS (SELECT FROM identity.accounts a WHERE a.email = wanted)
     ORDER BY r.created_at DESC LIMIT 1)
$$;

-- The family of a refresh token; its login session stays locked to the end of the transaction, so that parallel
-- refreshes take their turn. `dead`: the family has ended, or its current token has expired.
-- `member`: the person still belongs to the organization, which is not suspended.
CREATE FUNCTION identity.lock_refresh_family(presented bytea)
RETURNS TABLE (account_id uuid, login_session_id uuid, tenant_id uuid, generation integer, tip integer,
               seconds_since_use double precision, dead boolean, member boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM identity.login_sessions s JOIN identity.refresh_tokens r ON r.login_session_id = s.id
    WHERE r.token_hash = presented AND app.is_nobody() FOR UPDATE OF s;
    RETURN QUERY
    SELECT r.account_id, r.login_session_id, s.tenant_id, r.generation, s.tip,
           extract(epoch FROM clock_timestamp() - r.first_used_at)::double precision,
           s.revoked_at IS NOT NULL OR s.expires_at <= clock_timestamp()
               OR (r.generation = s.tip AND r.expires_at <= clock_timestamp()),
           EXISTS (SELECT FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                   WHERE m.tenant_id = s.tenant_id AND m.user_id = s.account_id AND o.suspended_at IS NULL)
    FROM identity.refresh_tokens r JOIN identity.login_sessions s ON s.id = r.login_session_id
    WHERE r.token_hash = presented AND app.is_nobody();
END
$$;
ALTER FUNCTION identity.account_by_email(text) OWNER TO context_definer;
ALTER FUNCTION identity.lock_refresh_family(bytea) OWNER TO context_definer;
