-- What log-in, verification and refreshing look up before anybody is known.

-- The registration to which a verification mail is sent again.
CREATE FUNCTION identity.pending_registration(wanted text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.id FROM identity.registrations r
    WHERE r.email = wanted AND r.expires_at > now() AND app.is_nobody()
        AND NOT EXISTS (SELECT FROM identity.accounts a WHERE a.email = wanted)
    ORDER BY r.created_at DESC LIMIT 1
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

ALTER FUNCTION identity.pending_registration(text) OWNER TO context_definer;
ALTER FUNCTION identity.mail_registration(uuid) OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.pending_registration(text), identity.mail_registration(uuid) TO auth_fn;
SET LOCAL ROLE context_owner;
