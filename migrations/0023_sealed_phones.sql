-- Phone numbers stand encrypted, as the secrets of authenticator apps do: the database never sees one in the clear.

-- No release has stored a number in the clear, and a migration has no key to encrypt one with.
ALTER TABLE identity.mfa_factors NO FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.mfa_codes NO FORCE ROW LEVEL SECURITY;
DELETE FROM identity.mfa_factors WHERE phone IS NOT NULL;
ALTER TABLE identity.mfa_codes FORCE ROW LEVEL SECURITY;
ALTER TABLE identity.mfa_factors FORCE ROW LEVEL SECURITY;
-- squawk-ignore ban-drop-constraint
ALTER TABLE identity.mfa_factors DROP CONSTRAINT mfa_factors_check1;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE identity.mfa_factors ADD CONSTRAINT mfa_factors_phone_check
    CHECK ((phone IS NOT NULL) = (type = 'sms') AND phone ~ '^v1\.[0-9a-f]{16}\.[A-Za-z0-9_=-]{40,200}$');

SET LOCAL ROLE context_definer;
-- As before, and whose the message is: the number is bound to the account.
-- squawk-ignore ban-drop-function
DROP FUNCTION identity.mfa_message(uuid);
SET LOCAL ROLE context_owner;
CREATE FUNCTION identity.mfa_message(message uuid)
RETURNS TABLE (address text, kid text, account_id text, is_phone boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(f.phone, a.email), c.kid, a.id::text, f.phone IS NOT NULL
    FROM platform.outbox o
    JOIN identity.mfa_codes c ON c.id = o.id AND c.account_id = o.reference
    JOIN identity.mfa_factors f ON f.id = c.factor_id
    JOIN identity.accounts a ON a.id = c.account_id
    WHERE o.id = message AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND c.used_at IS NULL AND c.expires_at > clock_timestamp() AND app.is_nobody()
$$;

-- The numbers of the person whose copy is made, sealed, by factor; and the copy of her factors, which takes the numbers
-- from the transaction's setting `export.phones` ({factor: number}): it fails where nobody has put them there.
CREATE FUNCTION platform.export_sealed_phones() RETURNS TABLE (factor_id text, account_id text, phone text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.id::text, f.account_id::text, f.phone
    FROM identity.mfa_factors f WHERE f.account_id = platform.export_subject() AND f.phone IS NOT NULL
$$;
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.export_mfa_factors() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT f.id, f.account_id, f.type,
               CASE WHEN f.phone IS NOT NULL THEN current_setting('export.phones')::jsonb ->> f.id::text END AS phone,
               platform.utc(f.failed_at) AS failed_at,
               platform.utc(f.created_at) AS created_at, platform.utc(f.confirmed_at) AS confirmed_at
        FROM identity.mfa_factors f WHERE f.account_id = platform.export_subject() ORDER BY f.created_at, f.id) r
$$;
SET LOCAL ROLE context_owner;

ALTER FUNCTION identity.mfa_message(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.export_sealed_phones() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.mfa_message(uuid) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.export_sealed_phones() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
