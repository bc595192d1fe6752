-- Appending to the audit chain holds the chain for as short as it can: everything that does not depend on the event
-- before is worked out first, and writers wait in a queue. The form of events and their hashes stay as they were.

-- When the last event was: the next one is never dated before it, whatever the clock does. Null: no event since 0028.
ALTER TABLE app.audit_heads ADD COLUMN at timestamptz;
-- Each event makes a new version of this row: they find room on its page, and leave the checkpoint where it is.
ALTER TABLE app.audit_heads ALTER COLUMN checkpoint SET STORAGE EXTERNAL;
ALTER TABLE app.audit_heads SET (fillfactor = 50, toast_tuple_target = 400);

SET LOCAL ROLE context_definer;

-- RFC 8785 for what an event may hold: objects with ASCII keys, arrays, strings, booleans, null and integers below 2^53.
-- Strings, booleans and nulls of an object are written where they stand: a call is the most expensive part of it.
CREATE OR REPLACE FUNCTION platform.canonical_json(value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    inside text;
BEGIN
    CASE jsonb_typeof(value)
        WHEN 'object' THEN
            IF value = '{}' THEN
                RETURN '{}';
            END IF;
            SELECT string_agg(concat(to_json(field.key), ':', CASE
                       WHEN jsonb_typeof(field.value) IN ('object', 'array', 'number')
                           THEN platform.canonical_json(field.value)
                       ELSE field.value::text END), ',' ORDER BY field.key COLLATE "C")
            INTO inside FROM jsonb_each(value) AS field;
            RETURN concat('{', inside, '}');
        WHEN 'array' THEN
            SELECT string_agg(platform.canonical_json(item.value), ',' ORDER BY item.ordinality)
            INTO inside FROM jsonb_array_elements(value) WITH ORDINALITY AS item;
            RETURN concat('[', inside, ']');
        WHEN 'number' THEN
            RETURN platform.canonical_integer(value::numeric);
        ELSE
            RETURN value::text;
    END CASE;
END
$$;

-- A fraction is refused even where it is whole (1.0): whoever checks the chain reads it as another value.
CREATE OR REPLACE FUNCTION platform.canonical_integer(number numeric) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF scale(number) > 0 OR abs(number) >= 9007199254740992 THEN
        RAISE EXCEPTION 'audit data holds only integers below 2^53' USING ERRCODE = '22023';
    END IF;
    RETURN number::text;
END
$$;

-- Append events to the chain of the sealed organization; the actor is the sealed principal or the API key.
-- events: [{action, resource_type, resource_id, outcome, request_id, data, personal: {ip, user_agent} or null}]
-- The row of the head is what keeps two writers apart. The advisory lock before it only makes a queue of them: those
-- who wait for a row are all woken by each new version of it.
CREATE OR REPLACE FUNCTION app.append_audit(events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    kind text := CASE app.sealed(1) WHEN 'u' THEN 'user' WHEN 'k' THEN 'api_key' ELSE 'system' END;
    principal uuid := CASE kind WHEN 'api_key' THEN app.sealed(4)::uuid ELSE app.principal_id() END;
    event jsonb;
    personal jsonb;
    salts text[];
    digests text[];
    before_at text[];
    before_link text[];
    before_seq text[];
    moment timestamptz;
BEGIN
    FOR i IN 1..jsonb_array_length(events) LOOP
        event := events -> (i - 1);
        salts[i] := encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
        personal := event -> 'personal'; -- nearly always these two, which need no sorting
        digests[i] := encode(sha256(convert_to(salts[i] || CASE
            WHEN personal = jsonb_build_object('ip', personal -> 'ip', 'user_agent', personal -> 'user_agent')
                AND jsonb_typeof(personal -> 'ip') IN ('string', 'null')
                AND jsonb_typeof(personal -> 'user_agent') IN ('string', 'null')
            THEN concat('{"ip":', personal -> 'ip', ',"user_agent":', personal -> 'user_agent', '}')
            ELSE platform.canonical_json(personal) END, 'UTF8')), 'hex');
        -- The event in canonical form, but for `at`, `prev_hash` and `seq`.
        before_at[i] := concat(
            '{"action":', to_json(event ->> 'action'),
            ',"actor":{"id":', coalesce(to_json(principal)::text, 'null'), ',"type":', to_json(kind),
            '},"at":"');
        before_link[i] := concat(
            '","data":', CASE event -> 'data' WHEN '{}' THEN '{}' ELSE platform.canonical_json(event -> 'data') END,
            ',"outcome":', to_json(event ->> 'outcome'), ',"personal_hash":"', digests[i], '","prev_hash":"');
        before_seq[i] := concat(
            '","request_id":', to_json(event ->> 'request_id'),
            ',"resource":{"id":', coalesce(to_json(event ->> 'resource_id')::text, 'null'),
            ',"type":', to_json(event ->> 'resource_type'), '},"seq":');
    END LOOP;
    PERFORM pg_advisory_xact_lock(hashtextextended('app.append_audit ' || tenant, 0));
    FOR i IN 1..jsonb_array_length(events) LOOP
        event := events -> (i - 1);
        LOOP
            moment := clock_timestamp();
            WITH head AS (
                UPDATE app.audit_heads h
                SET seq = h.seq + 1,
                    at = greatest(moment, h.at),
                    hash = encode(sha256(convert_to(concat(
                        before_at[i],
                        to_char(greatest(moment, h.at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                        before_link[i], h.hash, before_seq[i], h.seq + 1, '}'), 'UTF8')), 'hex')
                WHERE h.tenant_id = tenant
                RETURNING new.seq, new.at, old.hash AS prev_hash, new.hash)
            INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id,
                                          outcome, request_id, data, personal, personal_salt, personal_hash,
                                          prev_hash, hash)
            SELECT tenant, head.seq, head.at, kind, principal, event ->> 'action', event ->> 'resource_type',
                   event ->> 'resource_id', event ->> 'outcome', event ->> 'request_id', event -> 'data',
                   nullif(event -> 'personal', 'null'), salts[i], digests[i], head.prev_hash, head.hash
            FROM head;
            EXIT WHEN FOUND;
            INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (tenant, 0, repeat('0', 64))
            ON CONFLICT (tenant_id) DO NOTHING; -- the first event of an organization
        END LOOP;
    END LOOP;
END
$$;

SET LOCAL ROLE context_owner;
