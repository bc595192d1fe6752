-- Log-in by an outside provider (OpenID Connect): attempts on their way, links to accounts, and who a bearer token means.

-- A browser that was sent to a provider and is to come back once. Of its two secrets, the state in the address and the
-- value of its cookie, only hashes are known here. To link an identity or to step up, the attempt names the login
-- session that asked, and goes with it.
CREATE TABLE identity.oidc_attempts (
    state_hash bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    provider text NOT NULL CHECK (length(provider) <= 64),
    purpose text NOT NULL CHECK (purpose IN ('login', 'link', 'step_up')),
    login_session_id uuid REFERENCES identity.login_sessions ON DELETE CASCADE,
    cookies boolean NOT NULL,
    return_to text CHECK (length(return_to) <= 512),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CHECK ((purpose = 'login') = (login_session_id IS NULL))
);
CREATE INDEX oidc_attempts_by_session ON identity.oidc_attempts (login_session_id) WHERE login_session_id IS NOT NULL;
CREATE INDEX oidc_attempts_by_expiry ON identity.oidc_attempts (expires_at);
ALTER TABLE identity.oidc_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.oidc_attempts FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON identity.oidc_attempts TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.oidc_attempts TO context_definer;
ALTER TABLE identity.oidc_attempts ALTER COLUMN state_hash SET STATISTICS 0;
ALTER TABLE identity.oidc_attempts ALTER COLUMN browser_hash SET STATISTICS 0;

-- Nobody opens an attempt to log in, a person one for a login session of hers.
CREATE POLICY attempt ON identity.oidc_attempts FOR INSERT TO auth_fn
    WITH CHECK (CASE WHEN login_session_id IS NULL THEN (SELECT app.is_nobody())
                ELSE EXISTS (SELECT FROM identity.login_sessions s
                             WHERE s.id = login_session_id AND s.account_id = (SELECT app.principal_id())) END);
GRANT INSERT ON identity.oidc_attempts TO auth_fn;
GRANT SELECT, DELETE ON identity.federated_identities TO auth_fn;
GRANT INSERT (account_id, issuer, subject) ON identity.federated_identities TO auth_fn;

-- The attempt of a browser that came back: it is there once, and not for another browser.
CREATE FUNCTION identity.take_oidc_attempt(state bytea, browser bytea)
RETURNS TABLE (provider text, purpose text, cookies boolean, return_to text, started bigint,
               account_id uuid, tenant_id uuid, login_session_id uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (
        DELETE FROM identity.oidc_attempts a
        WHERE a.state_hash = state AND a.browser_hash = browser AND app.is_nobody()
        RETURNING a.*
    )
    SELECT t.provider, t.purpose, t.cookies, t.return_to, floor(extract(epoch FROM t.created_at))::bigint,
           s.account_id, s.tenant_id, s.id
    FROM taken t LEFT JOIN identity.login_sessions s ON s.id = t.login_session_id
    WHERE t.expires_at > clock_timestamp()
$$;

-- Whose identity it is: before anybody is known, and for every service that accepts tokens of a trusted issuer.
CREATE FUNCTION identity.federated_account(wanted_issuer text, wanted_subject text)
RETURNS TABLE (federated_identity_id uuid, account_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.id, f.account_id FROM identity.federated_identities f
    WHERE f.issuer = wanted_issuer AND f.subject = wanted_subject AND app.is_nobody()
$$;

-- Who logs in with an identity whose token the caller has verified. `mail` is an address that the provider may vouch
-- for, else NULL: then only a linked identity is somebody. A vouched address finds its account, or gets one
-- with an organization of its own; registrations that wait for it are somebody's claim, and end. To link the account is
-- for the transaction that is sealed for its person: injected SQL that is sealed for nobody could name any address.
-- Outcomes: known, to_link, created, not_linked, frozen. Organizations as identity.account_by_email gives them.
-- Raises violations of accounts_email_taken and federated_identities_linked when another log-in was faster.
CREATE FUNCTION identity.federated_log_in(
    wanted_issuer text, wanted_subject text, mail text, new_name text, new_organization text
)
RETURNS TABLE (outcome text, account_id uuid, identity_id uuid, organizations text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result text := 'known';
    person uuid;
    new_tenant uuid := gen_random_uuid();
BEGIN
    IF NOT app.is_nobody() THEN
        RAISE EXCEPTION 'somebody is logged in already' USING ERRCODE = '42501';
    END IF;
    SELECT f.account_id INTO person FROM identity.federated_account(wanted_issuer, wanted_subject) f;
    IF person IS NULL AND mail IS NOT NULL THEN
        result := 'to_link';
        SELECT a.id INTO person FROM identity.accounts a WHERE a.email = mail;
        IF person IS NULL THEN
            result := 'created';
            person := gen_random_uuid();
            INSERT INTO identity.accounts (id, email, display_name) VALUES (person, mail, new_name);
            INSERT INTO app.organizations (tenant_id, slug, name)
            VALUES (new_tenant,
                    concat_ws('-', nullif(trim(BOTH '-' FROM regexp_replace(lower(left(new_organization, 40)),
                                                                           '[^a-z0-9]+', '-', 'g')), ''),
                              left(new_tenant::text, 8)),
                    new_organization);
            INSERT INTO app.members (tenant_id, user_id, role) VALUES (new_tenant, person, 'owner');
            INSERT INTO identity.federated_identities (account_id, issuer, subject)
            VALUES (person, wanted_issuer, wanted_subject);
        END IF;
    END IF;
    IF mail IS NOT NULL THEN
        DELETE FROM identity.registrations r WHERE r.email = mail;
    END IF;
    RETURN QUERY
    SELECT CASE a.status WHEN 'active' THEN result ELSE 'frozen' END, a.id, f.id, m.organizations
    FROM identity.accounts a
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(o.tenant_id::text ORDER BY o.suspended_at IS NOT NULL, e.created_at, e.tenant_id),
                        '{}') AS organizations
        FROM app.members e JOIN app.organizations o ON o.tenant_id = e.tenant_id
        WHERE e.user_id = a.id
    ) AS m
    LEFT JOIN identity.federated_identities f ON f.issuer = wanted_issuer AND f.subject = wanted_subject
    WHERE a.id = person;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'not_linked', NULL::uuid, NULL::uuid, '{}'::text[];
    END IF;
END
$$;

CREATE FUNCTION platform.export_federated_identities() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT f.id, f.account_id, f.issuer, f.subject, platform.utc(f.created_at) AS created_at
        FROM identity.federated_identities f WHERE f.account_id = platform.export_subject()
        ORDER BY f.created_at, f.id) r
$$;

ALTER FUNCTION identity.take_oidc_attempt(bytea, bytea) OWNER TO context_definer;
ALTER FUNCTION identity.federated_account(text, text) OWNER TO context_definer;
ALTER FUNCTION identity.federated_log_in(text, text, text, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.export_federated_identities() OWNER TO context_definer;
GRANT USAGE ON SCHEMA identity TO organizations_fn, projects_fn, exports_fn, deletions_fn, audit_fn;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.take_oidc_attempt(bytea, bytea),
    identity.federated_log_in(text, text, text, text, text) TO auth_fn;
GRANT EXECUTE ON FUNCTION identity.federated_account(text, text)
    TO auth_fn, organizations_fn, projects_fn, exports_fn, deletions_fn, audit_fn;
GRANT EXECUTE ON FUNCTION platform.export_federated_identities() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
