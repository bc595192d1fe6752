-- The request context: a signed token from the function becomes a seal of one transaction, which every policy asks for.

CREATE SCHEMA app;
CREATE SCHEMA identity;
CREATE SCHEMA platform;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA app, identity, platform TO context_definer;

-- One row per signing key of a login role. The HMAC pads are stored instead of the key: two sha256 calls a check.
CREATE TABLE platform.context_keys (
    kid text PRIMARY KEY,
    login_role name NOT NULL,
    kinds text[] NOT NULL CHECK (kinds <@ ARRAY['u', 'k', 's']),
    signs_in boolean NOT NULL DEFAULT false,
    inner_pad bytea NOT NULL CHECK (length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The database's own key: made here, never leaves.
CREATE TABLE platform.seal_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    inner_pad bytea NOT NULL,
    outer_pad bytea NOT NULL
);

-- RFC 2104: the key xor 0x36 and 0x5c over the 64-byte block of SHA-256.
CREATE FUNCTION platform.hmac_pad(key bytea, filler integer) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pad bytea := decode(repeat(lpad(to_hex(filler), 2, '0'), 64), 'hex');
BEGIN
    IF length(key) > 64 THEN
        key := sha256(key);
    END IF;
    FOR position IN 0 .. length(key) - 1 LOOP
        pad := set_byte(pad, position, get_byte(key, position) # filler);
    END LOOP;
    RETURN pad;
END
$$;

WITH fresh AS (
    SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) AS key
)
INSERT INTO platform.seal_key (inner_pad, outer_pad)
SELECT platform.hmac_pad(key, 54), platform.hmac_pad(key, 92) FROM fresh;

ALTER TABLE platform.context_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.context_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE platform.seal_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.seal_key FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.context_keys TO context_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON platform.seal_key TO context_definer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.context_keys TO context_definer;
GRANT SELECT ON platform.seal_key TO context_definer;

CREATE FUNCTION platform.put_context_key(
    new_kid text, new_login_role name, new_kinds text[], new_signs_in boolean, key bytea
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.context_keys (kid, login_role, kinds, signs_in, inner_pad, outer_pad)
    VALUES (new_kid, new_login_role, new_kinds, new_signs_in,
            platform.hmac_pad(key, 54), platform.hmac_pad(key, 92))
    ON CONFLICT (kid) DO UPDATE SET login_role = excluded.login_role, kinds = excluded.kinds,
        signs_in = excluded.signs_in, inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad
$$;

CREATE FUNCTION platform.retire_context_keys(service_role name, kept text[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM platform.context_keys WHERE login_role = service_role AND kid <> ALL (kept)
$$;

-- A field of this transaction's seal, NULL without a valid one.
-- Seal: kind.tenant.principal.login session.pid.transaction start in µs.mac
CREATE FUNCTION app.sealed(field integer) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seal text := current_setting('app.context', true);
    part text[] := string_to_array(seal, '.');
    mac bytea;
BEGIN
    IF array_length(part, 1) IS DISTINCT FROM 7
        OR part[5] <> pg_backend_pid()::text
        OR part[6] <> (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint::text
    THEN
        RETURN NULL;
    END IF;
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(left(seal, -65), 'UTF8'))) INTO mac
    FROM platform.seal_key;
    -- Both sides are hashed once more, so that the comparison's duration tells nothing about the mac.
    IF sha256(convert_to(encode(mac, 'hex'), 'UTF8')) <> sha256(convert_to(part[7], 'UTF8')) THEN
        RETURN NULL;
    END IF;
    RETURN nullif(part[field], '');
END
$$;

CREATE FUNCTION app.tenant_id() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN app.sealed(2)::uuid;
END
$$;

CREATE FUNCTION app.principal_id() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN app.sealed(3)::uuid;
END
$$;

-- Whether this transaction was sealed for somebody who is not known yet. What log-in, registration and the sending of
-- mails look up is for such a transaction alone: one that works for a person cannot go back.
CREATE FUNCTION app.is_nobody() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(app.sealed(1) = 'u', false) AND app.sealed(3) IS NULL;
END
$$;

-- Whether a system transaction may touch a job: the one that its seal names or, sealed for none, any.
CREATE FUNCTION app.may_handle(job uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(app.sealed(1) = 's' AND job = coalesce(app.sealed(3)::uuid, job), false);
END
$$;

-- Verify a context token, prove the credential, seal this transaction; answers the caller's role and permissions as JSON.
-- Token: v1.kid.kind.tenant.principal.login session.pid.expiry in Unix seconds.mac
-- SQLSTATE: CX400 token refused, CX401 credential dead, CX402 the connection was tampered with, CX403 suspended.
CREATE FUNCTION app.authorize(token text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
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
    SELECT * INTO key FROM platform.context_keys WHERE kid = part[2] AND login_role = session_user;
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
    seal := concat_ws('.', part[3], part[4], part[5], part[6], part[7],
                      (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    RETURN answer;
END
$$;

ALTER FUNCTION platform.put_context_key(text, name, text[], boolean, bytea) OWNER TO context_definer;
ALTER FUNCTION platform.retire_context_keys(name, text[]) OWNER TO context_definer;
ALTER FUNCTION platform.hmac_pad(bytea, integer) OWNER TO context_definer;
ALTER FUNCTION app.sealed(integer) OWNER TO context_definer;
ALTER FUNCTION app.tenant_id() OWNER TO context_definer;
ALTER FUNCTION app.principal_id() OWNER TO context_definer;
ALTER FUNCTION app.is_nobody() OWNER TO context_definer;
ALTER FUNCTION app.may_handle(uuid) OWNER TO context_definer;
ALTER FUNCTION app.authorize(text) OWNER TO context_definer;
