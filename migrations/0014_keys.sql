-- Rotation of keys: one run at a time, and a narrow way for it to the keys that context tokens are checked with.

CREATE TABLE platform.key_run (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    run uuid NOT NULL,
    ends_at timestamptz NOT NULL
);
ALTER TABLE platform.key_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.key_run FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.key_run TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.key_run TO context_definer;

-- Whether the rotation is this run's alone: until it ends, or for so many seconds if it dies.
CREATE FUNCTION platform.begin_key_run(new_run uuid, seconds integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF app.sealed(1) IS DISTINCT FROM 's' THEN
        RAISE EXCEPTION 'for system jobs' USING ERRCODE = '42501';
    END IF;
    INSERT INTO platform.key_run AS present (run, ends_at)
    VALUES (new_run, clock_timestamp() + make_interval(secs => seconds))
    ON CONFLICT (only_row) DO UPDATE SET run = excluded.run, ends_at = excluded.ends_at
    WHERE present.ends_at <= clock_timestamp() OR present.run = excluded.run;
    RETURN FOUND;
END
$$;

CREATE FUNCTION platform.end_key_run(ended uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM platform.key_run WHERE run = ended AND app.sealed(1) = 's'
$$;

-- The one login whose keys these are. A key says whose it is, so that nobody has to be believed.
CREATE FUNCTION platform.context_login(kids text[]) RETURNS name
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    logins name[];
BEGIN
    SELECT array_agg(DISTINCT login_role) INTO logins FROM platform.context_keys WHERE kid = ANY (kids);
    IF app.sealed(1) IS DISTINCT FROM 's' OR cardinality(logins) IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION 'these are not the keys of one login' USING ERRCODE = '42501';
    END IF;
    RETURN logins[1];
END
$$;

CREATE FUNCTION platform.context_kids(kids text[]) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT kid FROM platform.context_keys WHERE login_role = platform.context_login(kids) ORDER BY kid
$$;

-- One more key of a login. What it may claim is what the login's keys may claim already; a key that is there is never
-- changed, whosever it is.
CREATE FUNCTION platform.add_context_key(beside text[], new_kid text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    login name := platform.context_login(beside);
BEGIN
    IF length(key) < 32 OR new_kid !~ '^[0-9a-zA-Z_-]{8,64}$' THEN
        RAISE EXCEPTION 'a key has 32 bytes or more, its id no dots' USING ERRCODE = '22023';
    END IF;
    INSERT INTO platform.context_keys (kid, login_role, kinds, signs_in, inner_pad, outer_pad)
    SELECT new_kid, login_role, kinds, signs_in, platform.hmac_pad(key, 54), platform.hmac_pad(key, 92)
    FROM platform.context_keys WHERE login_role = login ORDER BY created_at DESC LIMIT 1
    ON CONFLICT (kid) DO NOTHING;
    PERFORM FROM platform.context_keys
    WHERE kid = new_kid AND login_role = login AND inner_pad = platform.hmac_pad(key, 54);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another key has this id' USING ERRCODE = '23505';
    END IF;
END
$$;

-- A login loses a key, never its last one: one of `kept` has to be its own.
CREATE FUNCTION platform.retire_context_key(old_kid text, kept text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    login name := platform.context_login(array_remove(kept, old_kid));
BEGIN
    DELETE FROM platform.context_keys WHERE kid = old_kid AND login_role = login;
END
$$;

ALTER FUNCTION platform.begin_key_run(uuid, integer) OWNER TO context_definer;
ALTER FUNCTION platform.end_key_run(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.context_login(text[]) OWNER TO context_definer;
ALTER FUNCTION platform.context_kids(text[]) OWNER TO context_definer;
ALTER FUNCTION platform.add_context_key(text[], text, bytea) OWNER TO context_definer;
ALTER FUNCTION platform.retire_context_key(text, text[]) OWNER TO context_definer;

GRANT USAGE ON SCHEMA app, platform TO keys_fn;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.authorize(text) TO keys_fn;
GRANT EXECUTE ON FUNCTION
    platform.begin_key_run(uuid, integer), platform.end_key_run(uuid), platform.context_kids(text[]),
    platform.add_context_key(text[], text, bytea), platform.retire_context_key(text, text[])
    TO keys_fn;
SET LOCAL ROLE context_owner;
