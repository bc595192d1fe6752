-- Consents: purposes with versioned texts, an append-only proof of each decision, and marketing mail that asks for them.
-- The tables are new and the function that is replaced has not been released:
-- squawk-ignore-file ban-drop-function

-- What people are asked, word for word: a changed text is a new version. Of the platform here, of organizations in app.
CREATE TABLE platform.consent_texts (
    purpose text NOT NULL CONSTRAINT consent_texts_named CHECK (purpose ~ '^[a-z][a-z0-9_.-]{0,63}$'),
    version integer NOT NULL CHECK (version > 0),
    marketing boolean NOT NULL,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 20000),
    text_hash text NOT NULL -- hex SHA-256 of the text in UTF-8
        CONSTRAINT consent_texts_hashed CHECK (text_hash = encode(sha256(convert_to(text, 'UTF8')), 'hex')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (purpose, version),
    CONSTRAINT consent_texts_as_shown UNIQUE (purpose, version, text_hash)
);
CREATE TABLE app.consent_texts (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    purpose text NOT NULL CONSTRAINT consent_texts_named CHECK (purpose ~ '^[a-z][a-z0-9_.-]{0,63}$'),
    version integer NOT NULL CHECK (version > 0),
    marketing boolean NOT NULL,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 20000),
    text_hash text NOT NULL
        CONSTRAINT consent_texts_hashed CHECK (text_hash = encode(sha256(convert_to(text, 'UTF8')), 'hex')),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, purpose, version),
    CONSTRAINT consent_texts_as_shown UNIQUE (tenant_id, purpose, version, text_hash)
);
CREATE INDEX consent_texts_by_author ON app.consent_texts (tenant_id, created_by);
CREATE INDEX consent_texts_by_purpose ON app.consent_texts (purpose);

-- Each decision of a person is a row and stays one; the newest of a purpose counts. It outlives the account and the
-- membership, without address and browser, for as long as the register says: a proof of nobody in particular.
CREATE TABLE identity.consents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL,
    purpose text NOT NULL,
    version integer NOT NULL,
    text_hash text NOT NULL,
    granted boolean NOT NULL,
    source text NOT NULL CHECK (source IN ('registration', 'settings', 'unsubscribe')),
    signal text CHECK (signal = 'gpc'), -- the browser sent Sec-GPC: 1 along
    ip inet,
    user_agent text CHECK (length(user_agent) <= 512),
    at timestamptz NOT NULL,
    CONSTRAINT consents_to_a_text FOREIGN KEY (purpose, version, text_hash)
        REFERENCES platform.consent_texts (purpose, version, text_hash)
);
CREATE INDEX consents_newest ON identity.consents (account_id, purpose, at DESC);
CREATE INDEX consents_by_end ON identity.consents (at);
CREATE INDEX consents_by_text ON identity.consents (purpose, version, text_hash);
CREATE TABLE app.member_consents (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    purpose text NOT NULL,
    version integer NOT NULL,
    text_hash text NOT NULL,
    granted boolean NOT NULL,
    source text NOT NULL CHECK (source IN ('settings', 'unsubscribe')),
    signal text CHECK (signal = 'gpc'),
    ip inet,
    user_agent text CHECK (length(user_agent) <= 512),
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT member_consents_to_a_text FOREIGN KEY (tenant_id, purpose, version, text_hash)
        REFERENCES app.consent_texts (tenant_id, purpose, version, text_hash)
);
CREATE INDEX member_consents_newest ON app.member_consents (tenant_id, user_id, purpose, at DESC);
CREATE INDEX member_consents_by_end ON app.member_consents (at);
CREATE INDEX member_consents_by_text ON app.member_consents (tenant_id, purpose, version, text_hash);

-- A mail to all who have consented to a purpose. It holds no addressee but, while it runs, how far it is.
CREATE TABLE platform.campaigns (
    id uuid PRIMARY KEY,
    purpose text NOT NULL,
    organization_id uuid, -- whose purpose it is; none: the platform's
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 100000),
    reached uuid, -- the last account that was looked at
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- when the next mail may leave
    consenting bigint NOT NULL DEFAULT 0,
    mailed bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    withheld bigint NOT NULL DEFAULT 0, -- of `mailed`: not sent, since the consent was gone by then
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE INDEX campaigns_by_end ON platform.campaigns (created_at);
CREATE INDEX campaigns_of_organization ON platform.campaigns (organization_id) WHERE organization_id IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['platform.consent_texts', 'app.consent_texts', 'identity.consents',
                                'app.member_consents', 'platform.campaigns'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON %s TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO context_definer', name);
        IF name LIKE 'app.%' THEN
            EXECUTE format('CREATE POLICY tenant ON %s USING (tenant_id = (SELECT app.tenant_id()))'
                           ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        END IF;
    END LOOP;
END
$$;
ALTER TABLE identity.consents ALTER COLUMN ip SET STATISTICS 0;
ALTER TABLE identity.consents ALTER COLUMN user_agent SET STATISTICS 0;
ALTER TABLE app.member_consents ALTER COLUMN ip SET STATISTICS 0;
ALTER TABLE app.member_consents ALTER COLUMN user_agent SET STATISTICS 0;
-- Texts are never changed, and decisions only lose address and browser, by erasure; retention alone deletes them.
REVOKE UPDATE, DELETE ON platform.consent_texts FROM context_definer;

-- Whether the seal is a person's own, not that of a program that acts for her.
CREATE FUNCTION app.is_person() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(app.sealed(1) = 'u', false) AND app.principal_id() IS NOT NULL
$$;

-- Reading one's own is all that the service may do with the tables: what is written, the functions below write.
GRANT USAGE ON SCHEMA app, identity, platform TO consents_fn;
GRANT SELECT ON identity.consents, app.member_consents TO consents_fn;
CREATE POLICY principal ON identity.consents
    USING (account_id = (SELECT app.principal_id()) AND (SELECT app.is_person()))
    WITH CHECK (account_id = (SELECT app.principal_id()) AND (SELECT app.is_person()));
CREATE POLICY own ON app.member_consents AS RESTRICTIVE TO consents_fn
    USING (user_id = (SELECT app.principal_id()) AND (SELECT app.is_person()))
    WITH CHECK (user_id = (SELECT app.principal_id()) AND (SELECT app.is_person()));
GRANT SELECT (tenant_id, purpose, version, marketing, text, text_hash, created_by, created_at)
    ON app.consent_texts TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, user_id, purpose, version, text_hash, granted, source, signal, ip, user_agent, at)
    ON app.member_consents TO exports_jobs_fn;

-- How long a decision proves anything, and so how long a consent counts.
CREATE FUNCTION platform.consent_period(name text) RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (g.rules ->> 'period')::interval FROM platform.register g WHERE g.name = consent_period.name
$$;

-- The purposes that the sealed organization's members are asked for, with their current texts: the platform's, and its own.
CREATE FUNCTION app.consent_purposes()
RETURNS TABLE (purpose text, version integer, marketing boolean, text text, text_hash text, created_at timestamptz,
               scope text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT DISTINCT ON (t.purpose) t.purpose, t.version, t.marketing, t.text, t.text_hash, t.created_at, 'platform'
     FROM platform.consent_texts t WHERE app.principal_id() IS NOT NULL ORDER BY t.purpose, t.version DESC)
    UNION ALL
    (SELECT DISTINCT ON (t.purpose) t.purpose, t.version, t.marketing, t.text, t.text_hash, t.created_at, 'organization'
     FROM app.consent_texts t WHERE t.tenant_id = app.tenant_id() AND app.principal_id() IS NOT NULL
     ORDER BY t.purpose, t.version DESC)
$$;

-- The newest decision of a person on each purpose, of the platform or of an organization that she is a member of; what
-- she told it in an earlier membership has ended with that.
CREATE FUNCTION platform.newest_consents(person uuid, organization uuid)
RETURNS TABLE (id uuid, purpose text, version integer, granted boolean, source text, at timestamptz,
               current_version integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT DISTINCT ON (c.purpose) c.id, c.purpose, c.version, c.granted, c.source, c.at,
            (SELECT max(t.version) FROM platform.consent_texts t WHERE t.purpose = c.purpose)
     FROM identity.consents c
     WHERE organization IS NULL AND c.account_id = person
         AND c.at > clock_timestamp() - platform.consent_period('identity.consents')
     ORDER BY c.purpose, c.at DESC)
    UNION ALL
    (SELECT DISTINCT ON (c.purpose) c.id, c.purpose, c.version, c.granted, c.source, c.at,
            (SELECT max(t.version) FROM app.consent_texts t
             WHERE t.tenant_id = organization AND t.purpose = c.purpose)
     FROM app.member_consents c JOIN app.members m ON m.tenant_id = c.tenant_id AND m.user_id = c.user_id
     WHERE c.tenant_id = organization AND c.user_id = person AND c.at >= m.created_at
         AND c.at > clock_timestamp() - platform.consent_period('app.member_consents')
     ORDER BY c.purpose, c.at DESC)
$$;

-- Whether a person's consent counts: the newest decision is yes, to the text as it is now, and has not lapsed.
CREATE FUNCTION platform.consent_given(person uuid, organization uuid, wanted text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM platform.newest_consents(person, organization) c
                   WHERE c.purpose = wanted AND c.granted AND c.version = c.current_version)
        AND EXISTS (SELECT FROM identity.accounts a WHERE a.id = person)
$$;

-- The same for the sealed person: what any function asks before it does what needs a consent.
CREATE FUNCTION app.consented(wanted text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT app.is_person() AND (
        platform.consent_given(app.principal_id(), NULL, wanted)
        OR (app.tenant_id() IS NOT NULL AND platform.consent_given(app.principal_id(), app.tenant_id(), wanted)))
$$;

CREATE FUNCTION platform.consent_json(c record) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN json_build_object('purpose', c.purpose, 'version', c.version, 'granted', c.granted,
                             'at', to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                             'current_version', c.current_version);
END
$$;

-- What the sealed person has decided, one object per purpose.
CREATE FUNCTION app.my_consents() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.consent_json(c)
    FROM (SELECT * FROM platform.newest_consents(app.principal_id(), NULL)
          UNION ALL
          SELECT * FROM platform.newest_consents(app.principal_id(), app.tenant_id())
          WHERE app.tenant_id() IS NOT NULL) AS c
    WHERE app.is_person() ORDER BY c.purpose
$$;

-- The hash of a text as it was shown; NULL when there is no such version.
CREATE FUNCTION platform.consent_hash(organization uuid, wanted text, chosen integer) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.text_hash FROM platform.consent_texts t
    WHERE organization IS NULL AND t.purpose = wanted AND t.version = chosen
    UNION ALL
    SELECT t.text_hash FROM app.consent_texts t
    WHERE t.tenant_id = organization AND t.purpose = wanted AND t.version = chosen
$$;

-- One decision at a time of a person on a purpose, so that each is later than the one before, whatever the clock does.
CREATE FUNCTION platform.consent_turn(person uuid, organization uuid, wanted text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'consent', person, organization, wanted), 0))
$$;

-- Write a decision down; its time is the database's. No login may call this: each has a function that says whose it is.
CREATE FUNCTION platform.record_consent(
    person uuid, organization uuid, wanted text, chosen integer, give boolean, origin text, sign text, client inet,
    agent text
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown text := platform.consent_hash(organization, wanted, chosen);
    moment timestamptz;
    written uuid;
BEGIN
    PERFORM platform.consent_turn(person, organization, wanted);
    IF organization IS NULL THEN
        SELECT max(c.at) INTO moment FROM identity.consents c WHERE c.account_id = person AND c.purpose = wanted;
        INSERT INTO identity.consents AS c (account_id, purpose, version, text_hash, granted, source, signal, ip,
                                            user_agent, at)
        VALUES (person, wanted, chosen, shown, give, origin, sign, client, agent,
                greatest(clock_timestamp(), moment + interval '1 microsecond'))
        RETURNING c.id INTO written;
    ELSE
        SELECT max(c.at) INTO moment FROM app.member_consents c
        WHERE c.tenant_id = organization AND c.user_id = person AND c.purpose = wanted;
        INSERT INTO app.member_consents AS c (tenant_id, user_id, purpose, version, text_hash, granted, source,
                                              signal, ip, user_agent, at)
        VALUES (organization, person, wanted, chosen, shown, give, origin, sign, client, agent,
                greatest(clock_timestamp(), moment + interval '1 microsecond'))
        RETURNING c.id INTO written;
    END IF;
    RETURN written;
END
$$;

-- The sealed person decides. To give takes the version that is current: who gives has read that text. To withdraw takes
-- nothing. Saying the same again within a day changes nothing and writes nothing; nobody gives more than 25 times a day.
-- Outcome: written, unchanged, unknown (purpose), stale (version), too_often.
CREATE FUNCTION app.put_consent(
    wanted text, chosen integer, give boolean, sign text, client inet, agent text
) RETURNS TABLE (outcome text, consent_id uuid, before boolean, shown json)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := CASE WHEN app.is_person() THEN app.principal_id() END;
    tenant uuid;
    known record;
    last record;
    today bigint;
BEGIN
    IF person IS NULL OR app.tenant_id() IS NULL THEN
        RAISE EXCEPTION 'a consent is a person''s own' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('consent purpose ' || wanted, 0));
    SELECT p.* INTO known FROM app.consent_purposes() p WHERE p.purpose = wanted;
    outcome := CASE WHEN NOT FOUND THEN 'unknown'
                    WHEN give AND chosen IS DISTINCT FROM known.version THEN 'stale' ELSE 'written' END;
    IF outcome <> 'written' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    tenant := CASE known.scope WHEN 'organization' THEN app.tenant_id() END;
    PERFORM platform.consent_turn(person, tenant, wanted);
    SELECT c.* INTO last FROM platform.newest_consents(person, tenant) c WHERE c.purpose = wanted;
    IF NOT give AND platform.consent_hash(tenant, wanted, chosen) IS NULL THEN
        chosen := coalesce(last.version, known.version);
    END IF;
    before := last.granted;
    IF last.granted = give AND (NOT give OR last.version = chosen) AND last.source <> 'registration'
        AND last.at > clock_timestamp() - interval '1 day' THEN
        outcome := 'unchanged';
    ELSE
        SELECT (SELECT count(*) FROM identity.consents c
                WHERE tenant IS NULL AND c.account_id = person AND c.purpose = wanted AND c.granted
                    AND c.at > clock_timestamp() - interval '1 day')
             + (SELECT count(*) FROM app.member_consents c
                WHERE c.tenant_id = tenant AND c.user_id = person AND c.purpose = wanted AND c.granted
                    AND c.at > clock_timestamp() - interval '1 day') INTO today;
        IF give AND today >= 25 THEN
            outcome := 'too_often';
        ELSE
            consent_id := platform.record_consent(
                person, tenant, wanted, chosen, give, 'settings', sign, client, agent);
        END IF;
    END IF;
    shown := (SELECT platform.consent_json(c) FROM platform.newest_consents(person, tenant) c
              WHERE c.purpose = wanted);
    RETURN NEXT;
END
$$;

-- A text of the sealed organization: of a new purpose (`is_marketing` says its kind), or the next one of a purpose that
-- it has. Outcome: created, changed, unchanged, unknown, taken, of_platform, stale (`expected` is another version),
-- too_many.
CREATE FUNCTION app.put_consent_text(wanted text, new_text text, is_marketing boolean, expected integer)
RETURNS TABLE (outcome text, version integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known record;
    found_one boolean;
BEGIN
    IF NOT coalesce(app.sealed_holds(ARRAY['consent.manage']), false) THEN
        RAISE EXCEPTION 'texts are made by who may' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('consent purpose ' || wanted, 0));
    SELECT p.* INTO known FROM app.consent_purposes() p WHERE p.purpose = wanted;
    found_one := FOUND;
    version := coalesce(known.version, 0);
    IF NOT found_one AND is_marketing IS NOT NULL THEN -- two new ones at once are counted one after the other
        PERFORM pg_advisory_xact_lock(hashtextextended('consent purposes of ' || app.tenant_id(), 0));
    END IF;
    outcome := CASE
        WHEN is_marketing IS NOT NULL AND found_one THEN 'taken'
        WHEN is_marketing IS NULL AND NOT found_one THEN 'unknown'
        WHEN found_one AND known.scope = 'platform' THEN 'of_platform'
        WHEN expected <> known.version THEN 'stale'
        WHEN new_text = known.text THEN 'unchanged'
        WHEN NOT found_one AND (SELECT count(*) FROM app.consent_purposes() p WHERE p.scope = 'organization') >= 100
            THEN 'too_many'
        WHEN found_one THEN 'changed' ELSE 'created' END;
    IF outcome IN ('created', 'changed') THEN
        version := version + 1;
        INSERT INTO app.consent_texts (tenant_id, purpose, version, marketing, text, text_hash, created_by)
        VALUES (app.tenant_id(), wanted, put_consent_text.version, coalesce(is_marketing, known.marketing), new_text,
                encode(sha256(convert_to(new_text, 'UTF8')), 'hex'), app.principal_id());
    END IF;
    RETURN NEXT;
END
$$;

-- However a text comes in, by an import as well: there is one set of names.
CREATE FUNCTION app.keep_purposes_apart() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('consent purpose ' || NEW.purpose, 0));
    IF EXISTS (SELECT FROM platform.consent_texts t WHERE t.purpose = NEW.purpose) THEN
        RAISE EXCEPTION 'the platform asks for a purpose of this name' USING ERRCODE = '23505';
    END IF;
    RETURN NEW;
END
$$;

-- The same for the platform's own purposes, by its operator; `marketing` may be NULL where it is known. The version that
-- is current now. Raises CX409 for what cannot be.
CREATE FUNCTION platform.put_consent_purpose(purpose text, marketing boolean, text text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.consent_texts;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('consent purpose ' || put_consent_purpose.purpose, 0));
    SELECT t.* INTO known FROM platform.consent_texts t
    WHERE t.purpose = put_consent_purpose.purpose ORDER BY t.version DESC LIMIT 1;
    IF known.version IS NOT NULL AND known.text = put_consent_purpose.text
        AND known.marketing = coalesce(put_consent_purpose.marketing, known.marketing) THEN
        RETURN known.version;
    ELSIF known.marketing <> put_consent_purpose.marketing THEN
        RAISE EXCEPTION 'a purpose stays what it is: this one has another marketing flag' USING ERRCODE = 'CX409';
    ELSIF known.version IS NULL AND put_consent_purpose.marketing IS NULL THEN
        RAISE EXCEPTION 'a new purpose is marketing or not: say which' USING ERRCODE = 'CX409';
    ELSIF known.version IS NULL AND EXISTS (SELECT FROM app.consent_texts t
                                            WHERE t.purpose = put_consent_purpose.purpose) THEN
        RAISE EXCEPTION 'an organization uses this name: choose another' USING ERRCODE = 'CX409';
    END IF;
    INSERT INTO platform.consent_texts (purpose, version, marketing, text, text_hash)
    VALUES (put_consent_purpose.purpose, coalesce(known.version, 0) + 1,
            coalesce(put_consent_purpose.marketing, known.marketing), put_consent_purpose.text,
            encode(sha256(convert_to(put_consent_purpose.text, 'UTF8')), 'hex'));
    RETURN coalesce(known.version, 0) + 1;
END
$$;

CREATE FUNCTION platform.consent_purposes()
RETURNS TABLE (purpose text, version integer, marketing boolean, text text, text_hash text, created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (t.purpose) t.purpose, t.version, t.marketing, t.text, t.text_hash, t.created_at
    FROM platform.consent_texts t ORDER BY t.purpose, t.version DESC
$$;

-- What a registration says ([{purpose, granted}]), with the versions that are shown now; version null: no such purpose.
CREATE FUNCTION identity.consent_choices(given jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'purpose', g.choice -> 'purpose', 'granted', g.choice -> 'granted',
               'version', (SELECT max(t.version) FROM platform.consent_texts t
                           WHERE t.purpose = g.choice ->> 'purpose')) ORDER BY g.place), '[]')
    FROM jsonb_array_elements(given) WITH ORDINALITY AS g (choice, place) WHERE app.is_nobody()
$$;

-- As before, and what the registration said becomes consents, now that the mailbox has answered. The signal of either
-- moment makes a marketing consent a refusal; address and browser are those of the confirmation.
SET LOCAL ROLE context_definer;
DROP FUNCTION identity.activate_registration(bytea, bytea, boolean);
SET LOCAL ROLE context_owner;
CREATE FUNCTION identity.activate_registration(
    mailed bytea, browser bytea, proved boolean, sign text, client inet, agent text
) RETURNS TABLE (outcome text, account_id uuid, tenant_id uuid, password_hash text, consents jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pending identity.registrations;
    new_account uuid := gen_random_uuid();
    new_tenant uuid := gen_random_uuid();
BEGIN
    SELECT * INTO pending FROM identity.registrations r WHERE r.token_hash = mailed AND app.is_nobody() FOR UPDATE;
    IF NOT FOUND OR pending.expires_at <= now() THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid, NULL::uuid, NULL::text, NULL::jsonb;
    ELSIF NOT proved AND (browser IS NULL OR sha256(pending.browser_hash) <> sha256(browser)) THEN
        RETURN QUERY SELECT 'password_required', NULL::uuid, NULL::uuid, pending.password_hash, NULL::jsonb;
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
        RETURN QUERY SELECT 'activated', new_account, new_tenant, NULL::text,
                            identity.keep_choices(new_account, pending.consents, sign, client, agent);
    END IF;
END
$$;

CREATE FUNCTION identity.keep_choices(person uuid, choices jsonb, sign text, client inet, agent text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        SELECT DISTINCT ON (t.purpose) t.purpose, t.version, coalesce(sign, c.signal) AS signal,
               c.granted AND NOT (t.marketing AND coalesce(sign, c.signal) IS NOT NULL) AS granted
        FROM jsonb_to_recordset(choices) AS c (purpose text, version integer, granted boolean, signal text)
        JOIN platform.consent_texts t ON t.purpose = c.purpose AND t.version = c.version
        WHERE c.granted IS NOT NULL
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', platform.record_consent(person, NULL, d.purpose, d.version, d.granted, 'registration', d.signal, client,
                                      agent),
        'purpose', d.purpose, 'version', d.version, 'granted', d.granted)), '[]')
    FROM told d
$$;

-- Withdraw by a mailed link, which only we can have made: without a log-in, at once, and nothing else. The event stands
-- in the organization's chain or, for a purpose of the platform, in the platform's.
CREATE FUNCTION identity.unsubscribe(
    person uuid, organization uuid, wanted text, sign text, client inet, agent text, request text
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last record;
    state text;
    written uuid;
BEGIN
    IF NOT app.is_nobody() THEN
        RAISE EXCEPTION 'somebody is logged in' USING ERRCODE = '42501';
    END IF;
    PERFORM platform.consent_turn(person, organization, wanted);
    SELECT c.* INTO last FROM (
        SELECT c.version, c.granted, c.at FROM identity.consents c
        WHERE organization IS NULL AND c.account_id = person AND c.purpose = wanted
        UNION ALL -- what she told an organization has ended with her membership, and nothing is kept of her there
        SELECT c.version, c.granted, c.at FROM app.member_consents c
        JOIN app.members m ON m.tenant_id = c.tenant_id AND m.user_id = c.user_id AND c.at >= m.created_at
        WHERE c.tenant_id = organization AND c.user_id = person AND c.purpose = wanted
            AND platform.takes_events(organization)) AS c
    ORDER BY c.at DESC LIMIT 1;
    SELECT a.status INTO state FROM identity.accounts a WHERE a.id = person;
    IF last.granted IS NOT TRUE OR NOT FOUND THEN
        RETURN false; -- nothing to withdraw, or nobody
    END IF;
    IF state <> 'active' OR platform.is_frozen(person, organization) THEN -- her erasure has begun: no new trace of her
        client := NULL;
        agent := NULL;
    END IF;
    written := platform.record_consent(person, organization, wanted, last.version, false, 'unsubscribe', sign, client,
                                       agent);
    BEGIN
        PERFORM platform.record_event(
            organization, 'consent.withdrawn', 'consent', written::text,
            jsonb_build_object('purpose', wanted, 'version', last.version, 'source', 'unsubscribe'), request);
    EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: no reason to go on mailing her
        RAISE WARNING 'the audit chain of organization % takes no event', organization;
    END;
    RETURN true;
END
$$;

-- Whether a person may be mailed at all: an active account and, of an organization, one that is not suspended; of the
-- platform, not somebody all of whose organizations are.
CREATE FUNCTION platform.may_be_mailed(person uuid, organization uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM identity.accounts a
                   WHERE a.id = person AND a.status = 'active' AND a.email_verified_at IS NOT NULL)
        AND coalesce((SELECT bool_or(o.suspended_at IS NULL AND NOT platform.is_frozen(person, o.tenant_id))
                      FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                      WHERE m.user_id = person AND m.tenant_id = coalesce(organization, m.tenant_id)),
                     organization IS NULL)
$$;

-- Up to `most` people behind `after`, in the order of their ids: who consents, and who of them may be mailed.
CREATE FUNCTION platform.campaign_people(wanted text, organization uuid, after uuid, most integer)
RETURNS TABLE (person uuid, consenting boolean, mailable boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.id, p.consenting, p.consenting AND platform.may_be_mailed(p.id, organization)
    FROM (SELECT f.id, platform.consent_given(f.id, organization, wanted) AS consenting
          FROM ((SELECT a.id FROM identity.accounts a WHERE organization IS NULL AND a.id > after
                 ORDER BY a.id LIMIT most)
                UNION ALL
                (SELECT m.user_id FROM app.members m WHERE m.tenant_id = organization AND m.user_id > after
                 ORDER BY m.user_id LIMIT most)) AS f (id)) AS p
$$;

-- What a campaign would do to the next `most` people: the last of them, how many there were, and its counts.
CREATE FUNCTION platform.preview_campaign(wanted text, organization uuid, after uuid, most integer)
RETURNS TABLE (last uuid, seen bigint, consenting bigint, mailed bigint, skipped bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(p.person::text COLLATE "C")::uuid, count(*), count(*) FILTER (WHERE p.consenting),
           count(*) FILTER (WHERE p.mailable), count(*) FILTER (WHERE p.consenting AND NOT p.mailable)
    FROM platform.campaign_people(wanted, organization, after, most) p
$$;

-- Why there cannot be such a campaign; NULL when there can.
CREATE FUNCTION platform.campaign_refusal(wanted text, organization uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN organization IS NOT NULL AND NOT EXISTS (SELECT FROM app.organizations o WHERE o.tenant_id = organization)
            THEN 'unknown_organization'
        WHEN EXISTS (SELECT FROM app.organizations o
                     WHERE o.tenant_id = organization AND o.suspended_at IS NOT NULL) THEN 'suspended'
        WHEN f.marketing IS NULL THEN 'unknown_purpose'
        WHEN NOT f.marketing THEN 'not_marketing' END
    FROM (SELECT) AS one LEFT JOIN (
        SELECT t.marketing FROM platform.consent_texts t WHERE organization IS NULL AND t.purpose = wanted
        UNION
        SELECT t.marketing FROM app.consent_texts t WHERE t.tenant_id = organization AND t.purpose = wanted
    ) AS f ON true
$$;

-- Begin a campaign, or go on with it. Outcome: opened, known, differs (the id is that of another one), or a refusal.
CREATE FUNCTION platform.open_campaign(
    campaign uuid, wanted text, organization uuid, new_subject text, new_text text, request text
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text := platform.campaign_refusal(wanted, organization);
    known platform.campaigns;
BEGIN
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    INSERT INTO platform.campaigns (id, purpose, organization_id, subject, text)
    VALUES (campaign, wanted, organization, new_subject, new_text) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT c.* INTO known FROM platform.campaigns c WHERE c.id = campaign;
        RETURN CASE WHEN (known.purpose, known.subject, known.text) = (wanted, new_subject, new_text)
                        AND known.organization_id IS NOT DISTINCT FROM organization THEN 'known' ELSE 'differs' END;
    END IF;
    PERFORM platform.record_event(organization, 'campaign.started', 'campaign', campaign::text,
                                  jsonb_build_object('purpose', wanted), request);
    RETURN 'opened';
END
$$;

-- The next `most` people of a campaign: mails into the outbox for those who consent, `pace` apart. What was done and how
-- far it is are one transaction: a campaign that was killed goes on, and mails nobody twice.
CREATE FUNCTION platform.run_campaign(campaign uuid, most integer, pace interval, request text)
RETURNS TABLE (finished boolean, consenting bigint, mailed bigint, skipped bigint, withheld bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.campaigns;
    batch record;
BEGIN
    SELECT c.* INTO STRICT known FROM platform.campaigns c WHERE c.id = campaign FOR UPDATE;
    IF known.finished_at IS NULL THEN
        WITH people AS MATERIALIZED (
            SELECT p.*, row_number() OVER (PARTITION BY p.mailable ORDER BY p.person) AS place
            FROM platform.campaign_people(known.purpose, known.organization_id,
                coalesce(known.reached, '00000000-0000-0000-0000-000000000000'), most) p
        ), queued AS (
            INSERT INTO platform.outbox (id, kind, name, reference, task_name, not_before)
            SELECT gen_random_uuid(), 'mail', 'campaign.' || campaign, p.person,
                   replace(gen_random_uuid()::text, '-', ''),
                   greatest(known.next_at, clock_timestamp()) + (p.place - 1) * pace
            FROM people p WHERE p.mailable
        )
        SELECT max(p.person::text COLLATE "C")::uuid AS reached, count(*) AS seen, count(*) FILTER (WHERE p.consenting) AS consenting,
               count(*) FILTER (WHERE p.mailable) AS mailed
        INTO batch FROM people p;
        UPDATE platform.campaigns c
        SET reached = CASE WHEN batch.seen = most THEN batch.reached END,
            next_at = greatest(known.next_at, clock_timestamp()) + batch.mailed * pace,
            consenting = c.consenting + batch.consenting, mailed = c.mailed + batch.mailed,
            skipped = c.skipped + batch.consenting - batch.mailed,
            finished_at = CASE WHEN batch.seen < most THEN clock_timestamp() END
        WHERE c.id = campaign RETURNING c.* INTO known;
        IF known.finished_at IS NOT NULL THEN
            PERFORM platform.record_event(
                known.organization_id, 'campaign.completed', 'campaign', campaign::text,
                jsonb_build_object('purpose', known.purpose, 'consenting', known.consenting, 'mailed', known.mailed,
                                   'skipped', known.skipped), request);
        END IF;
    END IF;
    RETURN QUERY SELECT known.finished_at IS NOT NULL, known.consenting, known.mailed, known.skipped, known.withheld;
END
$$;

-- What a mail of a campaign says, while it is being sent, and to whom. The consent is asked for once more: where it is
-- gone there is no row, and the mail is done and counted as withheld.
CREATE FUNCTION platform.campaign_mail(mail uuid)
RETURNS TABLE (email text, subject text, text text, purpose text, account_id text, organization_id text,
               organization text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entry platform.outbox;
    known platform.campaigns;
BEGIN
    SELECT o.* INTO entry FROM platform.outbox o
    WHERE o.id = mail AND o.name LIKE 'campaign.%' AND o.claimed_until > clock_timestamp()
        AND o.delivered_at IS NULL AND app.is_nobody() FOR UPDATE;
    SELECT c.* INTO known FROM platform.campaigns c WHERE c.id = split_part(entry.name, '.', 2)::uuid;
    IF known.id IS NULL THEN
        RETURN;
    ELSIF platform.consent_given(entry.reference, known.organization_id, known.purpose)
        AND platform.may_be_mailed(entry.reference, known.organization_id) THEN
        RETURN QUERY
        SELECT a.email, known.subject, known.text, known.purpose, a.id::text, known.organization_id::text,
               (SELECT o.name FROM app.organizations o WHERE o.tenant_id = known.organization_id)
        FROM identity.accounts a WHERE a.id = entry.reference;
        RETURN;
    END IF;
    UPDATE platform.outbox o SET delivered_at = clock_timestamp() WHERE o.id = mail;
    UPDATE platform.campaigns c SET withheld = c.withheld + 1 WHERE c.id = known.id;
END
$$;

-- What an organization's campaigns said goes with the organization.
CREATE FUNCTION platform.forget_campaigns() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM platform.campaigns c WHERE c.organization_id = OLD.tenant_id;
    RETURN NULL;
END
$$;

CREATE FUNCTION platform.export_consents() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT c.id, c.account_id, c.purpose, c.version, c.text_hash, c.granted, c.source, c.signal, c.ip, c.user_agent,
               platform.utc(c.at) AS at
        FROM identity.consents c WHERE c.account_id = platform.export_subject() ORDER BY c.at, c.id) r
$$;

DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('app', 'identity', 'platform') AND p.proowner = 'context_owner'::regrole AND p.prosecdef
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', made);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION platform.consent_json(record) TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.forget_campaigns(), app.keep_purposes_apart() TO context_owner;
GRANT EXECUTE ON FUNCTION app.authorize(text), app.tenant_id(), app.principal_id(), app.is_person(),
    app.append_audit(jsonb), app.recall_answer(bytea), app.keep_answer(bytea, bytea, integer, jsonb, text),
    app.record_refusal(uuid, uuid, uuid, text, text, text, text, jsonb), identity.federated_account(text, text),
    app.consent_purposes(), app.my_consents(),
    app.put_consent(text, integer, boolean, text, inet, text), app.put_consent_text(text, text, boolean, integer),
    identity.unsubscribe(uuid, uuid, text, text, inet, text, text) TO consents_fn;
GRANT EXECUTE ON FUNCTION app.consented(text)
    TO auth_fn, organizations_fn, projects_fn, exports_fn, deletions_fn, audit_fn, consents_fn;
GRANT EXECUTE ON FUNCTION identity.consent_choices(jsonb),
    identity.activate_registration(bytea, bytea, boolean, text, inet, text), platform.campaign_mail(uuid) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.put_consent_purpose(text, boolean, text), platform.consent_purposes(),
    platform.preview_campaign(text, uuid, uuid, integer), platform.campaign_refusal(text, uuid),
    platform.open_campaign(uuid, text, uuid, text, text, text),
    platform.run_campaign(uuid, integer, interval, text) TO context_owner;
GRANT EXECUTE ON FUNCTION platform.export_consents() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
CREATE TRIGGER campaigns_go_too AFTER DELETE ON app.organizations
    FOR EACH ROW EXECUTE FUNCTION platform.forget_campaigns();
CREATE TRIGGER purposes_stand_apart BEFORE INSERT ON app.consent_texts
    FOR EACH ROW EXECUTE FUNCTION app.keep_purposes_apart();

-- As before; an id that the register lets stay, as that of nobody any more, is not what an erasure has left.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.scan_table(wanted text, phones text[] DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
    c platform.erasure_case;
    own jsonb;
    place record;
    texts text[];
    bytes text[];
    ids text[];
    joined text;
    conditions text[] := '{}';
    scope text := 'true';
    hits bigint;
BEGIN
    SELECT d.* INTO STRICT request FROM platform.sealed_deletion() d;
    SELECT coalesce(request.mail_to, p.mail_to), coalesce(request.name_to_find, p.name_to_find)
    INTO request.mail_to, request.name_to_find
    FROM (SELECT) AS one LEFT JOIN platform.deletions p ON p.job_id = request.parent_id;
    SELECT n.nspname AS schema, r.relname AS name, r.oid INTO STRICT place
    FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname || '.' || r.relname = wanted AND n.nspname IN ('app', 'identity', 'platform')
        AND r.relkind IN ('r', 'p');
    SELECT g.rules INTO own FROM platform.register g WHERE g.name = wanted;
    c := platform.case_of(request.subject_id, CASE place.schema WHEN 'app' THEN 'whole' ELSE 'account' END);
    IF request.subject_id IS NULL THEN
        IF place.schema <> 'app' OR own ->> 'whole' = 'keep' THEN
            RETURN 0;
        END IF;
        EXECUTE format('SELECT count(*) FROM %s WHERE t.tenant_id = ($1).tenant AND (%s) IS NOT TRUE',
                       platform.place_text(own, 't'), coalesce(platform.stays_text(wanted, 't', c, '{}'), 'false'))
        INTO hits USING c;
        RETURN hits;
    END IF;
    -- What people call themselves or their organizations is theirs to say, also another's name.
    SELECT array_agg(format('t.%I::text', a.attname) ORDER BY a.attnum) FILTER (WHERE
               a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'json'::regtype,
                              'jsonb'::regtype, 'xml'::regtype, 'text[]'::regtype, 'varchar[]'::regtype,
                              'jsonb[]'::regtype)
               AND (place.schema = 'app' OR a.attname NOT IN (
                   'email', 'display_name', 'organization_name', 'user_agent'))),
           array_agg(format('t.%I', a.attname)) FILTER (WHERE a.atttypid = 'bytea'::regtype),
           array_agg(CASE WHEN a.atttypid = 'uuid'::regtype THEN format('t.%I = ($1).person', a.attname)
                          ELSE format('($1).person = ANY (t.%I)', a.attname) END)
               FILTER (WHERE a.atttypid IN ('uuid'::regtype, 'uuid[]'::regtype) AND a.attname <> 'tenant_id'
                   AND NOT EXISTS (SELECT FROM jsonb_array_elements(own -> 'subjects') AS s
                                   WHERE place.schema <> 'app' AND s ->> 'column' = a.attname
                                       AND s ->> 'erase' IN ('keep', 'pseudonym')))
    INTO texts, bytes, ids
    FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attnum > 0 AND NOT a.attisdropped;
    joined := format('concat_ws(E''\n'', %s)', array_to_string(texts, ', '));
    IF place.schema = 'app' THEN
        scope := 't.tenant_id = ($1).tenant';
    ELSIF wanted = 'platform.deletions' THEN -- open requests still need the address
        scope := 't.subject_id = ($1).person AND t.finished_at IS NOT NULL';
    ELSIF wanted = 'identity.accounts' AND c.holds THEN
        scope := format('(%s) IS NOT TRUE', platform.held_text(wanted, own, 't'));
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'created_at'
                   AND a.atttypid = 'timestamptz'::regtype) AND request.frozen_at IS NOT NULL THEN
        scope := scope || ' AND t.created_at <= $5';
    END IF;
    IF texts IS NOT NULL THEN
        -- The cheap search first: the exact one, which knows where an address begins and ends, judges what it finds.
        conditions := conditions || format('(strpos(lower(%1$s), $2) > 0 AND %1$s ~* $3)', joined);
        IF phones <> '{}' THEN
            conditions := conditions || format('EXISTS (SELECT FROM unnest($6) AS phone WHERE strpos(%s, phone) > 0)',
                                               joined);
        END IF;
    END IF;
    IF bytes IS NOT NULL AND request.mail_to IS NOT NULL THEN
        conditions := conditions || array(
            SELECT format('position(convert_to($2, ''UTF8'') IN %s) > 0', each) FROM unnest(bytes) AS each);
    END IF;
    IF place.schema <> 'app' AND EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'email' AND NOT a.attisdropped)
    THEN
        conditions := conditions || 'lower(t.email) = $2'::text;
    END IF;
    IF ids IS NOT NULL AND place.schema <> 'app' THEN
        conditions := conditions || ids;
    ELSIF ids IS NOT NULL AND texts IS NOT NULL THEN
        conditions := conditions || format('((%s) AND %s ~ $4)', array_to_string(ids, ' OR '), joined);
    END IF;
    IF conditions = '{}' THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I.%I t WHERE %s AND (%s)', place.schema, place.name, scope,
                   array_to_string(conditions, ' OR '))
    INTO hits
    USING c, lower(request.mail_to),
        '(?<![a-z0-9._%+-])' || platform.literal_pattern(request.mail_to) || '(?![a-z0-9-]|\.[a-z0-9])',
        '(?<!\w)' || platform.literal_pattern(request.name_to_find) || '(?!\w)', request.frozen_at, phones;
    RETURN hits;
END
$$;
SET LOCAL ROLE context_owner;
