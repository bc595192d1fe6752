-- What log-in, verification and refreshing look up before anybody is known.

SET LOCAL ROLE context_definer;
-- squawk-ignore ban-drop-function
DROP FUNCTION identity.account_by_email(text);
-- squawk-ignore ban-drop-function
DROP FUNCTION identity.lock_refresh_family(bytea);
SET LOCAL ROLE context_owner;

-- The version of the refresh key that made a token, so that a rotated key still leads from one token to the next.
ALTER TABLE identity.refresh_tokens ADD COLUMN kid text;

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

-- The registration to which a verification mail is sent again.
CREATE FUNCTION identity.pending_registration(wanted text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.id FROM identity.registrations r
    WHERE r.email = wanted AND r.expires_at > now() AND app.is_nobody()
        AND NOT EXISTS (SELECT FROM identity.accounts a WHERE a.email = wanted)
    ORDER BY r.created_at DESC LIMIT 1
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

-- What a verification mail needs while it is being sent: no row when the registration is gone.
CREATE FUNCTION identity.mail_registration(mail uuid)
RETURNS TABLE (email text, token_hash bytea, taken boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.email, r.token_hash, EXISTS (SELECT FROM identity.accounts a WHERE a.email = r.email)
    FROM platform.outbox o JOIN identity.registrations r ON r.id = o.reference
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND r.expires_at > clock_timestamp() AND app.is_nobody()
$$;

ALTER FUNCTION identity.account_by_email(text) OWNER TO context_definer;
ALTER FUNCTION identity.pending_registration(text) OWNER TO context_definer;
ALTER FUNCTION identity.lock_refresh_family(bytea) OWNER TO context_definer;
ALTER FUNCTION identity.mail_registration(uuid) OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.account_by_email(text), identity.pending_registration(text),
    identity.lock_refresh_family(bytea), identity.mail_registration(uuid) TO auth_fn;
SET LOCAL ROLE context_owner;
