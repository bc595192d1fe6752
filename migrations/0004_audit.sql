-- The audit chain: one per organization, hashed over RFC 8785 canonical JSON, appended last in each transaction.

CREATE TABLE app.audit_heads (
    tenant_id uuid PRIMARY KEY REFERENCES app.organizations ON DELETE CASCADE,
    seq bigint NOT NULL,
    hash text NOT NULL
);

CREATE TABLE app.audit_events (
    tenant_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    actor_type text NOT NULL CHECK (actor_type IN ('user', 'api_key', 'system')),
    actor_id uuid,
    action text NOT NULL,
    resource_type text NOT NULL,
    resource_id text,
    outcome text NOT NULL CHECK (outcome IN ('success', 'denied', 'failure')),
    request_id text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    personal jsonb,
    personal_salt text,
    personal_hash text NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_events_by_actor ON app.audit_events (tenant_id, actor_id, seq);
CREATE INDEX audit_events_by_action ON app.audit_events (tenant_id, action, seq);
CREATE INDEX audit_events_by_time ON app.audit_events (tenant_id, at);
ALTER TABLE app.audit_events ALTER COLUMN personal SET STATISTICS 0;
ALTER TABLE app.audit_events ALTER COLUMN personal_salt SET STATISTICS 0;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_heads', 'audit_events'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON app.%I TO context_definer', name);
    END LOOP;
END
$$;
GRANT SELECT ON app.audit_events, app.audit_heads TO audit_fn;

-- RFC 8785 for what an event may hold: objects with ASCII keys, arrays, strings, booleans, null and integers below 2^53.
CREATE FUNCTION platform.canonical_json(value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE jsonb_typeof(value)
        WHEN 'object' THEN '{' || coalesce((
            SELECT string_agg(to_json(field.key)::text || ':' || platform.canonical_json(field.value), ','
                              ORDER BY field.key COLLATE "C")
            FROM jsonb_each(value) AS field), '') || '}'
        WHEN 'array' THEN '[' || coalesce((
            SELECT string_agg(platform.canonical_json(item.value), ',' ORDER BY item.ordinality)
            FROM jsonb_array_elements(value) WITH ORDINALITY AS item), '') || ']'
        WHEN 'number' THEN platform.canonical_integer(value::numeric)
        ELSE value::text
    END;
END
$$;

CREATE FUNCTION platform.canonical_integer(number numeric) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF number <> trunc(number) OR abs(number) >= 9007199254740992 THEN
        RAISE EXCEPTION 'audit data holds only integers below 2^53' USING ERRCODE = '22023';
    END IF;
    RETURN trunc(number)::text;
END
$$;

-- Append events to the chain of the sealed organization; the actor is the sealed principal.
-- events: [{action, resource_type, resource_id, outcome, request_id, data, personal: {ip, user_agent} or null}]
CREATE FUNCTION app.append_audit(events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    kind text := CASE app.sealed(1) WHEN 'u' THEN 'user' WHEN 'k' THEN 'api_key' ELSE 'system' END;
    principal uuid := app.principal_id();
    head app.audit_heads;
    event jsonb;
    moment timestamptz;
    salt text;
    personal_digest text;
    digest text;
BEGIN
    INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (tenant, 0, repeat('0', 64))
    ON CONFLICT (tenant_id) DO NOTHING;
    SELECT * INTO STRICT head FROM app.audit_heads WHERE tenant_id = tenant FOR UPDATE;
    FOR event IN SELECT value FROM jsonb_array_elements(events) LOOP
        head.seq := head.seq + 1;
        moment := clock_timestamp();
        salt := encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
        personal_digest := encode(sha256(convert_to(
            salt || platform.canonical_json(event -> 'personal'), 'UTF8')), 'hex');
        digest := encode(sha256(convert_to(platform.canonical_json(jsonb_build_object(
            'seq', head.seq,
            'at', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'actor', jsonb_build_object('type', kind, 'id', principal),
            'action', event -> 'action',
            'resource', jsonb_build_object('type', event -> 'resource_type', 'id', event -> 'resource_id'),
            'outcome', event -> 'outcome',
            'request_id', event -> 'request_id',
            'data', event -> 'data',
            'personal_hash', personal_digest,
            'prev_hash', head.hash)), 'UTF8')), 'hex');
        INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id,
                                      outcome, request_id, data, personal, personal_salt, personal_hash,
                                      prev_hash, hash)
        VALUES (tenant, head.seq, moment, kind, principal, event ->> 'action', event ->> 'resource_type',
                event ->> 'resource_id', event ->> 'outcome', event ->> 'request_id', event -> 'data',
                nullif(event -> 'personal', 'null'), salt, personal_digest, head.hash, digest);
        head.hash := digest;
    END LOOP;
    UPDATE app.audit_heads SET seq = head.seq, hash = head.hash WHERE tenant_id = tenant;
END
$$;

-- One event as API.md shows it.
CREATE FUNCTION app.audit_event_json(e app.audit_events) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'seq', e.seq, 'at', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'actor', json_build_object('type', e.actor_type, 'id', e.actor_id), 'action', e.action,
    'resource', json_build_object('type', e.resource_type, 'id', e.resource_id), 'outcome', e.outcome,
    'request_id', e.request_id, 'data', e.data, 'personal', e.personal, 'personal_salt', e.personal_salt,
    'personal_hash', e.personal_hash, 'prev_hash', e.prev_hash, 'hash', e.hash);

ALTER FUNCTION platform.canonical_json(jsonb) OWNER TO context_definer;
ALTER FUNCTION platform.canonical_integer(numeric) OWNER TO context_definer;
ALTER FUNCTION app.append_audit(jsonb) OWNER TO context_definer;
GRANT EXECUTE ON FUNCTION app.audit_event_json(app.audit_events) TO audit_fn;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.append_audit(jsonb) TO auth_fn, organizations_fn, projects_fn, exports_fn,
    exports_jobs_fn, deletions_fn, deletions_jobs_fn, audit_fn, retention_fn;
GRANT EXECUTE ON FUNCTION platform.canonical_json(jsonb) TO audit_fn;
SET LOCAL ROLE context_owner;
