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

-- Before log-in three one-row look-ups exist; these are two of them, and activate_registration is the third.
CREATE FUNCTION identity.account_by_email(wanted text)
RETURNS TABLE (id uuid, password_hash text, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.password_hash, a.status FROM identity.accounts a WHERE a.email = wanted
$$;

-- The family of a refresh token; its login session stays locked to the end of the transaction, so that parallel
-- refreshes take their turn.
CREATE FUNCTION identity.lock_refresh_family(presented bytea)
RETURNS TABLE (account_id uuid, login_session_id uuid, tenant_id uuid, generation integer, tip integer,
               since_first_use interval, dead boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM identity.login_sessions s JOIN identity.refresh_tokens r ON r.login_session_id = s.id
    WHERE r.token_hash = presented FOR UPDATE OF s;
    RETURN QUERY
    SELECT r.account_id, r.login_session_id, s.tenant_id, r.generation, s.tip, clock_timestamp() - r.first_used_at,
           s.revoked_at IS NOT NULL OR r.expires_at <= clock_timestamp() OR s.expires_at <= clock_timestamp()
    FROM identity.refresh_tokens r JOIN identity.login_sessions s ON s.id = r.login_session_id
    WHERE r.token_hash = presented;
END
$$;
ALTER FUNCTION identity.account_by_email(text) OWNER TO context_definer;
ALTER FUNCTION identity.lock_refresh_family(bytea) OWNER TO context_definer;
