-- Sign-in: the lock against guessing, known devices, password reset, a new e-mail address.

-- Set by a reset by mail, cleared by the log-in after it.
ALTER TABLE identity.accounts ADD COLUMN reset_by_mail_at timestamptz;

-- A browser that its person has logged in with: of its cookie only a hash is known here.
CREATE TABLE identity.devices (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX devices_by_account ON identity.devices (account_id);
CREATE INDEX devices_by_expiry ON identity.devices (expires_at);

-- Failures of one place for one address, of an account or of nobody: `subject` is a MAC of the e-mail address, `place`
-- the client's network, `device` and the id of a known device, or `account` for all places that are not known; `sessions`
-- for those of people who are logged in.
CREATE TABLE identity.login_locks (
    subject bytea NOT NULL,
    place text NOT NULL,
    account_id uuid REFERENCES identity.accounts ON DELETE CASCADE,
    failed_at timestamptz[] NOT NULL DEFAULT '{}',
    locks integer NOT NULL DEFAULT 0,
    locked_until timestamptz,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (subject, place)
);
CREATE INDEX login_locks_by_account ON identity.login_locks (account_id);
CREATE INDEX login_locks_by_expiry ON identity.login_locks (expires_at);

-- A mailed link that leads to a new password. For an unknown address there is a row too, about nobody: the same work.
CREATE TABLE identity.password_resets (
    id uuid PRIMARY KEY,
    account_id uuid REFERENCES identity.accounts ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX password_resets_by_account ON identity.password_resets (account_id, created_at);
CREATE INDEX password_resets_by_expiry ON identity.password_resets (expires_at);

-- A new address that its mailbox has not confirmed yet, and the login session and browser that asked for it. Once
-- confirmed it remembers the old one, for the notice that goes there.
CREATE TABLE identity.email_changes (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    login_session_id uuid NOT NULL,
    new_email text NOT NULL CHECK (length(new_email) <= 254),
    old_email text,
    browser_hash bytea NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX email_changes_by_account ON identity.email_changes (account_id, created_at);
CREATE INDEX email_changes_by_email ON identity.email_changes (new_email);
CREATE INDEX email_changes_by_expiry ON identity.email_changes (expires_at);

CREATE INDEX outbox_mails ON platform.outbox (reference, created_at) WHERE kind = 'mail';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['devices', 'login_locks', 'password_resets', 'email_changes'] LOOP
        EXECUTE format('ALTER TABLE identity.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE identity.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON identity.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON identity.%I TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY principal ON identity.devices
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
CREATE POLICY principal ON identity.password_resets
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
GRANT SELECT, INSERT (account_id, token_hash, expires_at), UPDATE (last_used_at, expires_at), DELETE
    ON identity.devices TO auth_fn;
GRANT SELECT (account_id), DELETE ON identity.password_resets TO auth_fn;
CREATE POLICY principal ON identity.email_changes
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
GRANT SELECT (account_id, confirmed_at), UPDATE (expires_at) ON identity.email_changes TO auth_fn;
GRANT UPDATE (reset_by_mail_at) ON identity.accounts TO auth_fn;

ALTER TABLE identity.devices ALTER COLUMN token_hash SET STATISTICS 0;
ALTER TABLE identity.login_locks ALTER COLUMN subject SET STATISTICS 0;
ALTER TABLE identity.login_locks ALTER COLUMN place SET STATISTICS 0;
ALTER TABLE identity.password_resets ALTER COLUMN token_hash SET STATISTICS 0;
ALTER TABLE identity.email_changes ALTER COLUMN new_email SET STATISTICS 0;
ALTER TABLE identity.email_changes ALTER COLUMN old_email SET STATISTICS 0;
ALTER TABLE identity.email_changes ALTER COLUMN browser_hash SET STATISTICS 0;
ALTER TABLE identity.email_changes ALTER COLUMN token_hash SET STATISTICS 0;

-- Where a try for `wanted` counts, from `client` with the hash of a device's cookie: at a known device, else in the
-- client's network (an IPv6 subscriber holds a /64; an IPv4 address written as one of IPv6 is one address), and
-- account-wide unless the person has logged in from there before. Within a login session, strangers' failures do not count:
-- `sessions` is account-wide for those who hold one.
-- For nobody, or for the person whose address it is: no row otherwise.
CREATE FUNCTION identity.lock_places(wanted text, client inet, device bytea)
RETURNS TABLE (subject bytea, account_id uuid, places text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(k.outer_pad || sha256(k.inner_pad || convert_to('login lock ' || wanted, 'UTF8'))), a.id,
           CASE
               WHEN d.id IS NOT NULL THEN ARRAY['device ' || d.id]
               WHEN EXISTS (SELECT FROM identity.login_sessions s WHERE s.account_id = a.id AND s.ip <<= n.net)
                   THEN ARRAY[n.net::text]
               WHEN a.id = app.principal_id() AND app.sealed(4) IS NOT NULL THEN ARRAY[n.net::text, 'sessions']
               ELSE ARRAY[n.net::text, 'account']
           END
    FROM platform.seal_key k
    CROSS JOIN (SELECT network(set_masklen(known, CASE WHEN family(known) = 4 THEN 32
                                                       WHEN known <<= inet '::ffff:0:0/96' THEN 128
                                                       ELSE 64 END)) AS net
                FROM coalesce(client, inet '0.0.0.0') AS known) AS n
    LEFT JOIN identity.accounts a ON a.email = wanted
    LEFT JOIN identity.devices d
        ON d.account_id = a.id AND d.token_hash = device AND d.expires_at > clock_timestamp()
    WHERE app.is_nobody() OR a.id = app.principal_id()
$$;

-- Seconds until a try may be made; 0 when it may.
CREATE FUNCTION identity.lock_wait(wanted text, client inet, device bytea) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(ceil(extract(epoch FROM max(l.locked_until) - clock_timestamp())), 0)::integer
    FROM identity.lock_places(wanted, client, device) p
    JOIN identity.login_locks l ON l.subject = p.subject AND l.place = ANY (p.places)
    WHERE l.locked_until > clock_timestamp()
$$;

-- A failed try: 0 when it was counted, the seconds to wait when it came too late to be told. Tries for one address take
-- their turn, so that of any number at a time no more are told than one after the other would be.
-- Five failures within a quarter of an hour lock a place for a minute, each further one for twice as long, a quarter of an
-- hour at most, until it has been open for an hour. All unknown places together have fifty, and fifty again.
CREATE FUNCTION identity.lock_failed(wanted text, client inet, device bytea) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here record;
    one text;
    known identity.login_locks;
    moment timestamptz;
    wait integer := 0;
    most integer;
BEGIN
    SELECT * INTO STRICT here FROM identity.lock_places(wanted, client, device);
    FOREACH one IN ARRAY here.places LOOP
        INSERT INTO identity.login_locks AS l (subject, place, account_id, expires_at)
        VALUES (here.subject, one, here.account_id, clock_timestamp() + interval '1 day')
        ON CONFLICT (subject, place) DO UPDATE SET expires_at = excluded.expires_at
        RETURNING l.* INTO known;
        wait := greatest(wait, ceil(extract(epoch FROM known.locked_until - clock_timestamp()))::integer);
    END LOOP;
    IF wait > 0 THEN
        RETURN wait;
    END IF;
    moment := clock_timestamp();
    FOREACH one IN ARRAY here.places LOOP
        most := CASE WHEN one IN ('account', 'sessions') THEN 50 ELSE 5 END;
        SELECT * INTO STRICT known FROM identity.login_locks l WHERE l.subject = here.subject AND l.place = one;
        known.failed_at := ARRAY(SELECT t FROM unnest(known.failed_at) AS t WHERE t > moment - interval '15 minutes'
                                 ORDER BY t) || moment;
        IF known.locked_until < moment - interval '1 hour' THEN
            known.locks := 0;
        END IF;
        IF cardinality(known.failed_at) >= most OR (known.locks > 0 AND most = 5) THEN
            known.locks := known.locks + 1;
            known.locked_until := moment + least(interval '1 minute' * power(2, least(known.locks, 10) - 1),
                                                 interval '15 minutes');
            known.failed_at := '{}';
        END IF;
        UPDATE identity.login_locks l
        SET failed_at = known.failed_at, locks = known.locks, locked_until = known.locked_until
        WHERE l.subject = here.subject AND l.place = one;
    END LOOP;
    RETURN 0;
END
$$;

-- The person has proved who she is: her failures at this place are forgotten, those of unknown places are not.
CREATE FUNCTION identity.lock_clear(wanted text, client inet, device bytea) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM identity.login_locks l USING identity.lock_places(wanted, client, device) p
    WHERE l.subject = p.subject AND l.place = p.places[1]
$$;

-- Whether a log-in of the account has to wait for a second factor: for nobody, who looks up how to log in, or its person.
CREATE FUNCTION identity.asks_for_factor(account uuid) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM identity.mfa_factors f WHERE f.account_id = account AND f.confirmed_at IS NOT NULL)
    WHERE app.is_nobody() OR account = app.principal_id()
$$;

-- The password hash of the newest registration that waits for an address, whether that has an account or not: what a
-- log-in with it is told must not depend on that.
CREATE FUNCTION identity.pending_password(wanted text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.password_hash FROM identity.registrations r
    WHERE r.email = wanted AND r.expires_at > clock_timestamp() AND app.is_nobody()
    ORDER BY r.created_at DESC LIMIT 1
$$;

-- Keep a reset for `wanted`; a new one kills older ones. Beyond five an hour it is about nobody, as for an unknown address:
-- the last mail's link keeps working, and nobody's mailbox is flooded.
CREATE FUNCTION identity.ask_password_reset(wanted text, reset uuid, token bytea, lifetime interval) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid;
BEGIN
    -- Of several at a time each counts those before it.
    PERFORM pg_advisory_xact_lock(hashtextextended('password reset ' || wanted, 0));
    SELECT a.id INTO person FROM identity.accounts a
    WHERE a.email = wanted AND a.status = 'active' AND app.is_nobody()
        AND (SELECT count(*) FROM identity.password_resets r
             WHERE r.account_id = a.id AND r.created_at > clock_timestamp() - interval '1 hour') < 5;
    UPDATE identity.password_resets r SET expires_at = clock_timestamp()
    WHERE r.account_id = person AND r.expires_at > clock_timestamp();
    INSERT INTO identity.password_resets (id, account_id, token_hash, expires_at)
    SELECT reset, person, token, clock_timestamp() + lifetime WHERE app.is_nobody();
END
$$;

CREATE FUNCTION identity.mail_password_reset(mail uuid) RETURNS TABLE (email text, token_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.email, r.token_hash
    FROM platform.outbox o
    JOIN identity.password_resets r ON r.id = o.reference
    JOIN identity.accounts a ON a.id = r.account_id AND a.status = 'active'
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND r.expires_at > clock_timestamp() AND app.is_nobody()
$$;

-- Whose password a mailed token changes: what the new one must not contain.
CREATE FUNCTION identity.password_reset(token bytea)
RETURNS TABLE (id uuid, account_id uuid, email text, display_name text, organizations text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.id, a.id, a.email, a.display_name,
           ARRAY(SELECT o.name FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                 WHERE m.user_id = a.id)
    FROM identity.password_resets r JOIN identity.accounts a ON a.id = r.account_id AND a.status = 'active'
    WHERE r.token_hash = token AND r.expires_at > clock_timestamp() AND app.is_nobody()
$$;

-- The token's one use, for the sealed person: injected SQL that is sealed for nobody could write a token of its own, and
-- only the service knows whose a mailed one is. The new password stands, every log-in, also one that waits for its second
-- factor, and every other reset has ended, failures are forgotten.
-- The organizations that are not suspended; no row when the token is worth nothing any more.
CREATE FUNCTION identity.reset_password(token bytea, new_hash text) RETURNS TABLE (organizations text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid;
BEGIN
    SELECT a.id INTO person
    FROM identity.password_resets r JOIN identity.accounts a ON a.id = r.account_id AND a.status = 'active'
    WHERE r.token_hash = token AND r.expires_at > clock_timestamp()
        AND a.id = CASE app.sealed(1) WHEN 'u' THEN app.principal_id() END
    FOR UPDATE OF a;
    -- Who waited for another use of the token finds it killed.
    UPDATE identity.password_resets r SET expires_at = clock_timestamp()
    WHERE r.token_hash = token AND r.account_id = person AND r.expires_at > clock_timestamp();
    IF person IS NULL OR NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE identity.accounts a SET password_hash = new_hash, reset_by_mail_at = clock_timestamp(),
        updated_at = clock_timestamp(), version = version + 1
    WHERE a.id = person;
    UPDATE identity.login_sessions s SET revoked_at = clock_timestamp()
    WHERE s.account_id = person AND s.revoked_at IS NULL;
    UPDATE identity.password_resets r SET expires_at = clock_timestamp()
    WHERE r.account_id = person AND r.expires_at > clock_timestamp();
    DELETE FROM identity.mfa_challenges c WHERE c.account_id = person;
    DELETE FROM identity.email_changes c WHERE c.account_id = person AND c.confirmed_at IS NULL;
    DELETE FROM identity.devices d WHERE d.account_id = person;
    DELETE FROM identity.login_locks l WHERE l.account_id = person AND l.place IN ('account', 'sessions');
    RETURN QUERY
    SELECT ARRAY(SELECT m.tenant_id::text
                 FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                 WHERE m.user_id = person AND o.suspended_at IS NULL ORDER BY m.created_at, m.tenant_id);
END
$$;

-- The sealed person wants another address; a new wish kills older ones. False beyond five an hour: the mails go to
-- addresses that nobody has proved to be hers.
CREATE FUNCTION identity.ask_email_change(
    change uuid, session uuid, wanted text, browser bytea, token bytea, lifetime interval
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := CASE app.sealed(1) WHEN 'u' THEN app.principal_id() END;
BEGIN
    PERFORM FROM identity.accounts a WHERE a.id = person FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM identity.email_changes c
        WHERE c.account_id = person AND c.created_at > clock_timestamp() - interval '1 hour') >= 5 THEN
        RETURN false;
    END IF;
    UPDATE identity.email_changes c SET expires_at = clock_timestamp()
    WHERE c.account_id = person AND c.expires_at > clock_timestamp();
    INSERT INTO identity.email_changes (id, account_id, login_session_id, new_email, browser_hash, token_hash, expires_at)
    VALUES (change, person, session, wanted, browser, token, clock_timestamp() + lifetime);
    RETURN true;
END
$$;

-- What the mail to the new address needs: the wish that was written along with it.
CREATE FUNCTION identity.mail_email_change(mail uuid)
RETURNS TABLE (id uuid, email text, token_hash bytea, taken boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.id, c.new_email, c.token_hash,
           EXISTS (SELECT FROM identity.accounts a WHERE a.email = c.new_email AND a.id <> c.account_id)
    FROM platform.outbox o
    JOIN identity.email_changes c ON c.account_id = o.reference AND c.created_at = o.created_at
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND c.expires_at > clock_timestamp() AND c.confirmed_at IS NULL AND app.is_nobody()
$$;

-- Who asked for the change that a mailed token confirms, and from where.
CREATE FUNCTION identity.email_change(token bytea)
RETURNS TABLE (id uuid, account_id uuid, login_session_id uuid, tenant_id uuid, browser_hash bytea, email text,
               password_hash text, organizations text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.id, c.account_id, s.id, s.tenant_id, c.browser_hash, a.email, a.password_hash,
           ARRAY(SELECT m.tenant_id::text
                 FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                 WHERE m.user_id = a.id AND o.suspended_at IS NULL ORDER BY m.created_at, m.tenant_id)
    FROM identity.email_changes c
    JOIN identity.accounts a ON a.id = c.account_id AND a.status = 'active'
    LEFT JOIN identity.login_sessions s
        ON s.id = c.login_session_id AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
    WHERE c.token_hash = token AND c.expires_at > clock_timestamp() AND c.confirmed_at IS NULL AND app.is_nobody()
$$;

-- The sealed person's new address stands. Links that were mailed to the old one, and registrations that wait for the new
-- one, end. False when the wish is worth nothing any more; raises a violation of accounts_email_taken.
CREATE FUNCTION identity.confirm_email_change(change uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := CASE app.sealed(1) WHEN 'u' THEN app.principal_id() END;
    old text;
    wish identity.email_changes;
BEGIN
    SELECT a.email INTO old FROM identity.accounts a WHERE a.id = person FOR UPDATE;
    UPDATE identity.email_changes c
    SET confirmed_at = now(), old_email = old, expires_at = clock_timestamp()
    WHERE c.id = change AND c.account_id = person AND c.confirmed_at IS NULL AND c.expires_at > clock_timestamp()
    RETURNING c.* INTO wish;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE identity.accounts SET email = wish.new_email, email_verified_at = clock_timestamp(),
        updated_at = clock_timestamp(), version = version + 1
    WHERE id = person;
    DELETE FROM identity.password_resets r WHERE r.account_id = person;
    DELETE FROM identity.registrations r WHERE r.email = wish.new_email;
    RETURN true;
END
$$;

-- What a notice needs while it is being sent: where to, the old address of a change that was confirmed along with it, when
-- it was, and the address of a login session that began along with it.
CREATE FUNCTION identity.mail_notice(mail uuid) RETURNS TABLE (email text, old_email text, at text, ip text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.email, c.old_email, to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), host(s.ip)
    FROM platform.outbox o
    JOIN identity.accounts a ON a.id = o.reference
    LEFT JOIN identity.email_changes c ON c.account_id = a.id AND c.confirmed_at = o.created_at
    LEFT JOIN identity.login_sessions s ON s.account_id = a.id AND s.created_at = o.created_at
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL AND app.is_nobody()
    LIMIT 1
$$;

-- What others wished for that was an erased person's address goes with her: it is hers, not theirs.
CREATE FUNCTION identity.forget_wishes() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM identity.email_changes WHERE new_email = OLD.email;
    RETURN OLD;
END
$$;

CREATE FUNCTION platform.export_devices() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT d.id, d.account_id, platform.utc(d.created_at) AS created_at,
               platform.utc(d.last_used_at) AS last_used_at, platform.utc(d.expires_at) AS expires_at
        FROM identity.devices d WHERE d.account_id = platform.export_subject() ORDER BY d.created_at, d.id) r
$$;

CREATE FUNCTION platform.export_email_changes() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT c.id, c.account_id, c.new_email, c.old_email, platform.utc(c.created_at) AS created_at,
               platform.utc(c.confirmed_at) AS confirmed_at, platform.utc(c.expires_at) AS expires_at
        FROM identity.email_changes c WHERE c.account_id = platform.export_subject() ORDER BY c.created_at, c.id) r
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'identity.lock_places(text, inet, bytea)', 'identity.lock_wait(text, inet, bytea)',
        'identity.lock_failed(text, inet, bytea)', 'identity.lock_clear(text, inet, bytea)',
        'identity.asks_for_factor(uuid)', 'identity.pending_password(text)',
        'identity.ask_password_reset(text, uuid, bytea, interval)', 'identity.mail_password_reset(uuid)',
        'identity.password_reset(bytea)', 'identity.reset_password(bytea, text)',
        'identity.ask_email_change(uuid, uuid, text, bytea, bytea, interval)', 'identity.mail_email_change(uuid)',
        'identity.email_change(bytea)', 'identity.confirm_email_change(uuid)', 'identity.mail_notice(uuid)',
        'identity.forget_wishes()', 'platform.export_devices()', 'platform.export_email_changes()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION identity.lock_wait(text, inet, bytea), identity.lock_failed(text, inet, bytea),
    identity.lock_clear(text, inet, bytea), identity.asks_for_factor(uuid),
    identity.pending_password(text), identity.ask_password_reset(text, uuid, bytea, interval),
    identity.mail_password_reset(uuid), identity.password_reset(bytea), identity.reset_password(bytea, text),
    identity.ask_email_change(uuid, uuid, text, bytea, bytea, interval), identity.mail_email_change(uuid),
    identity.email_change(bytea), identity.confirm_email_change(uuid), identity.mail_notice(uuid) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.export_devices(), platform.export_email_changes() TO exports_jobs_fn;

-- As before, and no mailbox is flooded: five mails an hour for a registration, whose first link keeps working, and twenty
-- for all that wait for one address.
CREATE OR REPLACE FUNCTION identity.mail_registration(mail uuid)
RETURNS TABLE (email text, token_hash bytea, taken boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.email, r.token_hash, EXISTS (SELECT FROM identity.accounts a WHERE a.email = r.email)
    FROM platform.outbox o
    JOIN identity.registrations r ON r.id = o.reference
    CROSS JOIN LATERAL (
        SELECT count(*) AS for_address, count(*) FILTER (WHERE s.id = r.id) AS for_registration
        FROM identity.registrations s JOIN platform.outbox p ON p.reference = s.id AND p.kind = 'mail'
        WHERE s.email = r.email AND p.id <> o.id
            AND p.created_at > o.created_at - interval '1 hour' AND p.created_at <= o.created_at) AS earlier
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL
        AND r.expires_at > clock_timestamp() AND app.is_nobody()
        AND earlier.for_registration < 5 AND earlier.for_address < 20
$$;
GRANT EXECUTE ON FUNCTION identity.forget_wishes() TO context_owner;
SET LOCAL ROLE context_owner;
CREATE TRIGGER wishes_end_with_the_account AFTER DELETE ON identity.accounts
    FOR EACH ROW EXECUTE FUNCTION identity.forget_wishes();
