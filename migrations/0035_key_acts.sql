-- The operator's `rotate-keys` runs as the account of `keys`, whose log-in may do nothing else here than say what it did:
-- the account that writes secrets is no owner of the schema, and the owner's writes no secrets.

CREATE FUNCTION platform.record_key_act(done text, data jsonb, request text, outcome text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF app.sealed(1) IS DISTINCT FROM 's' OR done NOT IN ('key.rotation_started', 'key.rotated') THEN
        RAISE EXCEPTION 'for the rotation of keys' USING ERRCODE = '42501';
    END IF;
    PERFORM platform.record_event(NULL, done, 'key', NULL, data, request, outcome);
END
$$;
ALTER FUNCTION platform.record_key_act(text, jsonb, text, text) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.record_key_act(text, jsonb, text, text) TO keys_fn;
SET LOCAL ROLE context_owner;
