-- What each request pays for its guards, and no guard less: what puts a pooled connection back flies with the others,
-- both keys are read at once, and a function that asks for several fields of the seal verifies it once.
SET LOCAL ROLE context_definer;

-- Behind RESET ROLE and RESET ALL: end what else SQL may have left on the connection (cursors, channels, locks of the
-- session), with the caller's own rights, and authorize.
CREATE FUNCTION app.authorize_afresh(token text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE 'CLOSE ALL'; -- to PL/pgSQL itself, ALL is the name of a cursor
    UNLISTEN *;
    PERFORM pg_advisory_unlock_all();
    RETURN app.authorize(token);
END
$$;
REVOKE EXECUTE ON FUNCTION app.authorize_afresh(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.authorize_afresh(text) TO auth_fn, organizations_fn, projects_fn, exports_fn,
    exports_jobs_fn, deletions_fn, deletions_jobs_fn, audit_fn, retention_fn, keys_fn, consents_fn, sessions_fn,
    incidents_fn, context_owner;

-- As before; the keys of the login and of the seal come in one look.
CREATE OR REPLACE FUNCTION app.authorize(token text) RETURNS text
LANGUAGE plpgsql PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := string_to_array(token, '.');
    key record;
    mac bytea;
    seconds_left bigint;
    answer text;
    seal text;
BEGIN
    PERFORM set_config('app.context', '', true);
    IF EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql) THEN
        RAISE EXCEPTION 'a statement was prepared by SQL on this connection' USING ERRCODE = 'CX402';
    END IF;
    IF array_length(part, 1) IS DISTINCT FROM 9 OR part[1] <> 'v1' THEN
        RAISE EXCEPTION 'malformed context token' USING ERRCODE = 'CX400';
    END IF;
    SELECT k.kinds, k.signs_in, k.inner_pad, k.outer_pad, own.inner_pad AS seal_inner, own.outer_pad AS seal_outer
    INTO key FROM platform.context_keys k CROSS JOIN platform.seal_key own
    WHERE k.kid = part[2] AND k.login_role = session_user;
    IF NOT FOUND OR NOT part[3] = ANY (key.kinds) THEN
        RAISE EXCEPTION 'this login may not claim that' USING ERRCODE = 'CX400';
    END IF;
    mac := sha256(key.outer_pad || sha256(key.inner_pad
        || convert_to(left(token, -(length(part[9]) + 1)), 'UTF8')));
    IF sha256(convert_to(encode(mac, 'hex'), 'UTF8')) <> sha256(convert_to(part[9], 'UTF8')) THEN
        RAISE EXCEPTION 'context token altered' USING ERRCODE = 'CX400';
    END IF;
    seconds_left := part[8]::bigint - floor(extract(epoch FROM clock_timestamp()))::bigint;
    IF part[7] <> pg_backend_pid()::text OR seconds_left < 0 OR seconds_left > 5 THEN
        RAISE EXCEPTION 'context token of another connection or time' USING ERRCODE = 'CX400';
    END IF;
    answer := app.credential(part[3], nullif(part[4], '')::uuid, nullif(part[5], '')::uuid,
                             nullif(part[6], '')::uuid, key.signs_in);
    IF part[3] = 'k' THEN
        part[4] := answer::json ->> 'tenant';
        part[5] := answer::json ->> 'principal';
        part[6] := answer::json ->> 'key';
    END IF;
    IF part[3] = 'p' THEN
        part[3] := 'u'; -- from here on a person like any other, who was granted nothing
    END IF;
    seal := concat_ws('.', part[3], part[4], part[5], part[6], part[7],
                      (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac := sha256(key.seal_outer || sha256(key.seal_inner || convert_to(seal, 'UTF8')));
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    RETURN answer;
END
$$;

-- The fields of this transaction's seal, NULL without a valid one: kind, tenant, principal, login session or API key.
-- Seal: kind.tenant.principal.login session.pid.transaction start in µs.mac
CREATE FUNCTION app.seal_fields() RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seal text := current_setting('app.context', true);
    part text[] := string_to_array(seal, '.', '');
    mac bytea;
BEGIN
    IF array_length(part, 1) IS DISTINCT FROM 7
        OR part[5] IS DISTINCT FROM pg_backend_pid()::text
        OR part[6] IS DISTINCT FROM (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint::text
    THEN
        RETURN NULL;
    END IF;
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(left(seal, -65), 'UTF8'))) INTO mac
    FROM platform.seal_key;
    -- Both sides are hashed once more, so that the comparison's duration tells nothing about the mac.
    IF sha256(convert_to(encode(mac, 'hex'), 'UTF8')) IS DISTINCT FROM sha256(convert_to(part[7], 'UTF8')) THEN
        RETURN NULL;
    END IF;
    RETURN part[1:4];
END
$$;
REVOKE EXECUTE ON FUNCTION app.seal_fields() FROM PUBLIC;

CREATE OR REPLACE FUNCTION app.sealed(field integer) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (app.seal_fields())[field];
END
$$;

CREATE OR REPLACE FUNCTION app.tenant_id() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (app.seal_fields())[2]::uuid;
END
$$;

CREATE OR REPLACE FUNCTION app.principal_id() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (app.seal_fields())[3]::uuid;
END
$$;

CREATE OR REPLACE FUNCTION app.is_nobody() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
BEGIN
    RETURN coalesce(sealed[1] = 'u', false) AND sealed[3] IS NULL;
END
$$;

CREATE OR REPLACE FUNCTION app.is_person() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
BEGIN
    RETURN coalesce(sealed[1] = 'u', false) AND sealed[3] IS NOT NULL;
END
$$;

CREATE OR REPLACE FUNCTION app.may_handle(job uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
BEGIN
    RETURN coalesce(sealed[1] = 's' AND job = coalesce(sealed[3]::uuid, job), false);
END
$$;

CREATE OR REPLACE FUNCTION app.recall_answer(wanted bytea) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
    tenant uuid := sealed[2]::uuid;
    person uuid := sealed[3]::uuid;
    lock bytea := sha256(uuid_send(tenant) || uuid_send(person) || wanted);
BEGIN
    IF NOT pg_try_advisory_xact_lock(('x' || left(encode(lock, 'hex'), 16))::bit(64)::bigint) THEN
        RETURN '{"running": true}';
    END IF;
    RETURN (SELECT json_build_object('fingerprint', encode(a.fingerprint, 'hex'), 'status', a.status,
                                     'headers', a.headers, 'body', a.body)::text
            FROM app.idempotent_answers a
            WHERE a.tenant_id = tenant AND a.user_id = person AND a.scope = wanted
                AND a.created_at > clock_timestamp() - interval '24 hours');
END
$$;

CREATE OR REPLACE FUNCTION app.keep_answer(kept_scope bytea, kept_fingerprint bytea, answered integer, kept_headers jsonb,
                                           kept_body text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
BEGIN
    INSERT INTO app.idempotent_answers AS a (tenant_id, user_id, scope, fingerprint, status, headers, body)
    VALUES (sealed[2]::uuid, sealed[3]::uuid, kept_scope, kept_fingerprint, answered, kept_headers, kept_body)
    ON CONFLICT (tenant_id, user_id, scope) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
        headers = excluded.headers, body = excluded.body, created_at = excluded.created_at;
END
$$;

-- As before; who acts is read from the seal once.
CREATE OR REPLACE FUNCTION app.append_audit(events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sealed text[] := app.seal_fields();
    tenant uuid := sealed[2]::uuid;
    kind text := CASE sealed[1] WHEN 'u' THEN 'user' WHEN 'k' THEN 'api_key' ELSE 'system' END;
    principal uuid := CASE kind WHEN 'api_key' THEN sealed[4] ELSE sealed[3] END::uuid;
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
