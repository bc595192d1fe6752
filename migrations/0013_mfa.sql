-- The second factor: what people prove themselves with beside the password, and what is asked for at the moment.

-- When the person proved who she is for this log-in; a switch takes it over. A factor that is younger proves nothing here.
ALTER TABLE identity.login_sessions ADD COLUMN proved_at timestamptz NOT NULL DEFAULT now();

-- `secret` of an authenticator app, encrypted under `mfa-key`; an e-mail factor is the account's own address.
-- `last_step`: the time step of the last code that was accepted (RFC 6238, 5.2: each one once).
CREATE TABLE identity.mfa_factors (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    type text NOT NULL CHECK (type IN ('totp', 'sms', 'email')),
    secret text CHECK ((secret IS NOT NULL) = (type = 'totp')),
    phone text CHECK ((phone IS NOT NULL) = (type = 'sms') AND phone ~ '^\+[1-9][0-9]{6,14}$'),
    last_step bigint,
    failures integer NOT NULL DEFAULT 0,
    failed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    expires_at timestamptz DEFAULT now() + interval '1 day', -- of one that is never confirmed
    CHECK ((confirmed_at IS NULL) = (expires_at IS NOT NULL))
);
CREATE INDEX mfa_factors_by_account ON identity.mfa_factors (account_id);
CREATE INDEX mfa_factors_by_expiry ON identity.mfa_factors (expires_at) WHERE expires_at IS NOT NULL;

-- A log-in that waits for its second factor: behind the `mfa_token`.
CREATE TABLE identity.mfa_challenges (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    method text NOT NULL,
    amr text[] NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX mfa_challenges_by_account ON identity.mfa_challenges (account_id);
CREATE INDEX mfa_challenges_by_expiry ON identity.mfa_challenges (expires_at);

-- A code that was sent: its digits are a MAC of `id` (also the message's) under key `kid` of `mfa-key`, and stand nowhere.
-- `bound_to` is the challenge or the login session that asked for it: nowhere else is it worth anything.
CREATE TABLE identity.mfa_codes (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    factor_id uuid NOT NULL REFERENCES identity.mfa_factors ON DELETE CASCADE,
    bound_to uuid NOT NULL,
    kid text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX mfa_codes_by_factor ON identity.mfa_codes (factor_id, created_at DESC);
CREATE INDEX mfa_codes_by_account ON identity.mfa_codes (account_id);
CREATE INDEX mfa_codes_by_expiry ON identity.mfa_codes (expires_at);

CREATE TABLE identity.mfa_recovery_codes (
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    PRIMARY KEY (account_id, code_hash)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['mfa_factors', 'mfa_challenges', 'mfa_codes', 'mfa_recovery_codes'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON identity.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON identity.%I TO context_definer', name);
        EXECUTE format('CREATE POLICY principal ON identity.%I USING (account_id = (SELECT app.principal_id()))'
                       ' WITH CHECK (account_id = (SELECT app.principal_id()))', name);
    END LOOP;
END
$$;
ALTER TABLE identity.mfa_factors ALTER COLUMN secret SET STATISTICS 0;
ALTER TABLE identity.mfa_factors ALTER COLUMN phone SET STATISTICS 0;
ALTER TABLE identity.mfa_challenges ALTER COLUMN token_hash SET STATISTICS 0;
ALTER TABLE identity.mfa_recovery_codes ALTER COLUMN code_hash SET STATISTICS 0;

GRANT SELECT, INSERT (id, account_id, type, secret, phone), DELETE,
    UPDATE (secret, last_step, failures, failed_at, confirmed_at, expires_at) ON identity.mfa_factors TO auth_fn;
GRANT SELECT, INSERT (id, account_id, tenant_id, token_hash, method, amr, expires_at), DELETE, UPDATE (attempts)
    ON identity.mfa_challenges TO auth_fn;
GRANT SELECT, INSERT (id, account_id, factor_id, bound_to, kid, expires_at), UPDATE (attempts, used_at)
    ON identity.mfa_codes TO auth_fn;
GRANT SELECT, INSERT (account_id, code_hash), DELETE, UPDATE (used_at) ON identity.mfa_recovery_codes TO auth_fn;

-- A text message goes out as a mail does, from the same service: the person it is about is the one who is sealed.
-- squawk-ignore ban-drop-constraint
ALTER TABLE platform.outbox DROP CONSTRAINT outbox_kind_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('mail', 'sms', 'workflow'));
CREATE INDEX outbox_texts ON platform.outbox (reference, created_at) WHERE kind = 'sms';
CREATE POLICY texts ON platform.outbox FOR INSERT TO auth_fn
    WITH CHECK (kind = 'sms' AND reference = (SELECT app.principal_id()));

SET LOCAL ROLE context_definer;
-- As before, and for text messages too.
CREATE OR REPLACE FUNCTION platform.mail_claim(mail uuid)
RETURNS TABLE (state text, name text, reference uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entry platform.outbox;
BEGIN
    SELECT * INTO entry FROM platform.outbox o
    WHERE o.id = mail AND o.kind IN ('mail', 'sms') AND app.is_nobody() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::text, NULL::uuid;
    ELSIF entry.delivered_at IS NOT NULL THEN
        RETURN QUERY SELECT 'done', NULL::text, NULL::uuid;
    ELSIF entry.claimed_until > clock_timestamp() THEN
        RETURN QUERY SELECT 'busy', NULL::text, NULL::uuid;
    ELSE
        UPDATE platform.outbox o SET claimed_until = clock_timestamp() + interval '30 seconds' WHERE o.id = mail;
        RETURN QUERY SELECT 'claimed', entry.name, entry.reference;
    END IF;
END
$$;
SET LOCAL ROLE context_owner;

-- The log-in behind an mfa_token. `locked` holds it to the end of the transaction, so that tries take their turn.
-- `organizations`: where its failures are told, the log-in's own first.
CREATE FUNCTION identity.mfa_challenge(token bytea, locked boolean)
RETURNS TABLE (id uuid, account_id uuid, tenant_id uuid, method text, amr text[], attempts integer, email text,
               organizations text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF locked THEN -- the account first, as a new password does, which ends the log-in
        PERFORM FROM identity.accounts a
        WHERE a.id = (SELECT c.account_id FROM identity.mfa_challenges c WHERE c.token_hash = token AND app.is_nobody())
        FOR NO KEY UPDATE;
        PERFORM FROM identity.mfa_challenges c WHERE c.token_hash = token AND app.is_nobody() FOR UPDATE;
    END IF;
    RETURN QUERY
    SELECT c.id, c.account_id, c.tenant_id, c.method, c.amr, c.attempts, a.email,
           ARRAY(SELECT m.tenant_id::text
                 FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                 WHERE m.user_id = c.account_id AND o.suspended_at IS NULL
                 ORDER BY m.tenant_id <> c.tenant_id, m.created_at, m.tenant_id)
    FROM identity.mfa_challenges c JOIN identity.accounts a ON a.id = c.account_id AND a.status = 'active'
    WHERE c.token_hash = token AND c.expires_at > clock_timestamp() AND app.is_nobody();
END
$$;

-- What a code's message needs while it is being sent: no row when it is of no use any more.
CREATE FUNCTION identity.mfa_message(message uuid)
RETURNS TABLE (address text, kid text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(f.phone, a.email), c.kid
    FROM platform.outbox o
    JOIN identity.mfa_codes c ON c.id = o.id AND c.account_id = o.reference
    JOIN identity.mfa_factors f ON f.id = c.factor_id
    JOIN identity.accounts a ON a.id = c.account_id
    WHERE o.id = message AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND c.used_at IS NULL AND c.expires_at > clock_timestamp() AND app.is_nobody()
$$;

-- Seconds until the sealed person may be texted again: `most` in a day, whatever became of their codes and factors.
CREATE FUNCTION identity.text_pause(most integer) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(ceil(extract(epoch FROM r.created_at + interval '1 day' - clock_timestamp()))), 0)::integer
    FROM (SELECT o.created_at, row_number() OVER (ORDER BY o.created_at DESC) AS place
          FROM platform.outbox o
          WHERE o.kind = 'sms' AND o.reference = app.principal_id()
              AND o.created_at > clock_timestamp() - interval '1 day') AS r
    WHERE r.place = most
$$;

-- A person's copy holds her factors, without their secrets.
CREATE FUNCTION platform.export_mfa_factors() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT f.id, f.account_id, f.type, f.phone, platform.utc(f.failed_at) AS failed_at,
               platform.utc(f.created_at) AS created_at, platform.utc(f.confirmed_at) AS confirmed_at
        FROM identity.mfa_factors f WHERE f.account_id = platform.export_subject() ORDER BY f.created_at, f.id) r
$$;

-- The tables of identity whose rows belong to an account, those that refer to another of them first.
CREATE FUNCTION platform.account_tables() RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'identity'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p')
    ORDER BY (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f') DESC, c.relname
$$;

SET LOCAL ROLE context_definer;
-- As before, and of every table of identity whose rows belong to an account.
CREATE OR REPLACE FUNCTION platform.subject_counts(person uuid)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place regclass;
BEGIN
    RETURN QUERY
    SELECT 'identity.accounts', 'delete', count(*) FROM identity.accounts a WHERE a.id = person
    UNION ALL
    SELECT 'identity.registrations', 'delete', count(*)
    FROM identity.registrations r JOIN identity.accounts a ON a.email = r.email WHERE a.id = person
    UNION ALL
    SELECT 'platform.exports', 'delete', count(*)
    FROM platform.exports e WHERE person IN (e.subject_account_id, e.requested_by)
    UNION ALL
    SELECT 'platform.outbox', 'delete', count(*)
    FROM platform.outbox o WHERE o.reference IN (SELECT platform.subject_references(person));
    FOR place IN SELECT t FROM platform.account_tables() AS t LOOP
        RETURN QUERY EXECUTE format('SELECT %L, ''delete'', count(*) FROM %s WHERE account_id = $1', place, place)
        USING person;
    END LOOP;
END
$$;

-- As before, and of every table of identity whose rows belong to an account. A table that others refer to waits until
-- they are empty: rows that a reference takes along would not be counted.
CREATE OR REPLACE FUNCTION platform.erase_account(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
    place regclass;
    erased bigint;
    total bigint := 0;
BEGIN
    DELETE FROM platform.outbox WHERE id IN (
        SELECT o.id FROM platform.outbox o WHERE o.reference IN (SELECT platform.subject_references(person)) LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('platform.outbox', 'delete', erased);
    DELETE FROM identity.registrations WHERE id IN (
        SELECT r.id FROM identity.registrations r JOIN platform.deletions d ON d.mail_to = r.email
        WHERE d.job_id = app.principal_id() AND d.subject_id = person LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('identity.registrations', 'delete', erased);
    DELETE FROM platform.jobs WHERE id IN (
        SELECT e.id FROM platform.exports e WHERE person IN (e.subject_account_id, e.requested_by) LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('platform.exports', 'delete', erased);
    FOR place IN SELECT t FROM platform.account_tables() AS t LOOP
        EXECUTE format('DELETE FROM %1$s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$s WHERE account_id = $1 LIMIT $2))',
                       place)
        USING person, most;
        GET DIAGNOSTICS erased = ROW_COUNT;
        total := total + erased;
        PERFORM platform.count_erased(place::text, 'delete', erased);
        EXIT WHEN erased = most;
    END LOOP;
    UPDATE platform.deletions SET reason = NULL, mail_to = NULL, name_to_find = NULL
    WHERE subject_id = person AND job_id <> app.principal_id();
    IF total = 0 THEN
        DELETE FROM identity.accounts WHERE id = person;
        GET DIAGNOSTICS total = ROW_COUNT;
        PERFORM platform.count_erased('identity.accounts', 'delete', total);
    END IF;
    RETURN total;
END
$$;

-- As before: up to `most` rows of a table whose time, `period` of the register, is over; of the tables of identity,
-- counted from `expires_at`.
CREATE OR REPLACE FUNCTION platform.retire(wanted text, period interval, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    edge timestamptz := clock_timestamp() - period;
    place regclass;
    retired integer;
BEGIN
    IF period < interval '0' THEN
        RAISE EXCEPTION 'a period is not negative' USING ERRCODE = '22023';
    END IF;
    CASE wanted
        WHEN 'platform.outbox' THEN
            DELETE FROM platform.outbox WHERE id IN (
                SELECT o.id FROM platform.outbox o WHERE o.created_at < edge AND o.sent_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'platform.exports' THEN
            DELETE FROM platform.jobs WHERE id IN (
                SELECT e.id FROM platform.exports e WHERE e.requested_at < edge AND e.removed_at IS NOT NULL
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'platform.deletions' THEN
            DELETE FROM platform.jobs WHERE id IN (
                SELECT d.job_id FROM platform.deletions d
                WHERE d.received_at < edge AND d.finished_at IS NOT NULL
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'app.idempotent_answers' THEN
            DELETE FROM app.idempotent_answers WHERE (tenant_id, user_id, scope) IN (
                SELECT a.tenant_id, a.user_id, a.scope FROM app.idempotent_answers a WHERE a.created_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        ELSE
            SELECT c.oid::regclass INTO STRICT place
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'expires_at' AND NOT a.attisdropped
            WHERE n.nspname = 'identity' AND n.nspname || '.' || c.relname = wanted AND c.relkind = 'r';
            EXECUTE format('DELETE FROM %1$s WHERE ctid = ANY (ARRAY('
                           'SELECT ctid FROM %1$s WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))', place)
            USING edge, most;
    END CASE;
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;
SET LOCAL ROLE context_owner;

ALTER FUNCTION identity.mfa_challenge(bytea, boolean) OWNER TO context_definer;
ALTER FUNCTION identity.mfa_message(uuid) OWNER TO context_definer;
ALTER FUNCTION identity.text_pause(integer) OWNER TO context_definer;
ALTER FUNCTION platform.export_mfa_factors() OWNER TO context_definer;
ALTER FUNCTION platform.account_tables() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.mfa_challenge(bytea, boolean), identity.mfa_message(uuid),
    identity.text_pause(integer) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.export_mfa_factors() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
