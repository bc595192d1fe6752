-- The audit chain's base, which moves when retention drops a prefix, and a chain for what the platform itself does.

-- base: the last event that retention has dropped, with its hash; events up to it are no part of the chain any more.
-- checkpoint: the statement about it that the services signed, checked by whoever verifies.
ALTER TABLE app.audit_heads ADD COLUMN base_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE app.audit_heads ADD COLUMN base_hash text NOT NULL
    DEFAULT '0000000000000000000000000000000000000000000000000000000000000000';
ALTER TABLE app.audit_heads ADD COLUMN checkpoint jsonb;

-- Whoever reads for the platform's operator, or for retention, has no seal of the organization.
CREATE POLICY definer ON app.audit_events FOR SELECT TO context_definer USING (true);
CREATE POLICY definer ON app.audit_heads FOR SELECT TO context_definer USING (true);
GRANT EXECUTE ON FUNCTION app.audit_event_json(app.audit_events) TO context_definer;

-- The reserved organization whose chain holds what the platform does. Nobody is its member, and it is suspended for ever.
CREATE FUNCTION platform.organization_id() RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '00000000-0000-4000-8000-000000000001'::uuid;
GRANT EXECUTE ON FUNCTION platform.organization_id() TO context_definer;

ALTER TABLE app.organizations NO FORCE ROW LEVEL SECURITY;
INSERT INTO app.organizations (tenant_id, slug, name, suspended_at)
VALUES (platform.organization_id(), 'platform', 'Platform', now());
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE app.organizations ADD CONSTRAINT organizations_platform_rests
    CHECK (tenant_id <> '00000000-0000-4000-8000-000000000001' OR suspended_at IS NOT NULL);
ALTER TABLE app.organizations FORCE ROW LEVEL SECURITY;

-- One event by the system in an organization's chain or, given none, in the platform's. The transaction is sealed for
-- that moment, and afterwards as it was. No function's login may call it: each gets a narrow function that does.
CREATE FUNCTION platform.record_event(
    organization uuid, done text, resource_type text, resource_id text, data jsonb, request text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := coalesce(current_setting('app.context', true), '');
    seal text := concat_ws('.', 's', coalesce(organization, platform.organization_id()), '', '', pg_backend_pid(),
                           (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac bytea;
BEGIN
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    PERFORM app.append_audit(jsonb_build_array(jsonb_build_object(
        'action', done, 'resource_type', resource_type, 'resource_id', resource_id, 'outcome', 'success',
        'request_id', request, 'data', coalesce(data, '{}'), 'personal', NULL)));
    PERFORM set_config('app.context', before, true);
END
$$;

-- Up to `most` events behind a seq, whole, of an organization's chain or, given none, the platform's: for the operator,
-- who checks all chains.
CREATE FUNCTION platform.audit_page(organization uuid, after bigint, most integer) RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT app.audit_event_json(e) FROM app.audit_events e
    WHERE e.tenant_id = coalesce(organization, platform.organization_id())
        AND e.seq > greatest(after, (SELECT h.base_seq FROM app.audit_heads h
                                     WHERE h.tenant_id = coalesce(organization, platform.organization_id())))
    ORDER BY e.seq LIMIT most
$$;

ALTER FUNCTION platform.record_event(uuid, text, text, text, jsonb, text) OWNER TO context_definer;
ALTER FUNCTION platform.audit_page(uuid, bigint, integer) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.record_event(uuid, text, text, text, jsonb, text),
    platform.audit_page(uuid, bigint, integer) TO context_owner;

CREATE OR REPLACE FUNCTION platform.set_suspended(organization uuid, wanted boolean, reason text, request text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known app.organizations;
BEGIN
    SELECT * INTO known FROM app.organizations o
    WHERE o.tenant_id = organization AND o.tenant_id <> platform.organization_id() FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF EXISTS (SELECT FROM platform.deletion_organizations d
                  WHERE d.tenant_id = organization AND d.mode = 'whole') THEN
        RETURN 'erasing';
    ELSIF wanted = (known.suspended_at IS NOT NULL) THEN
        RETURN 'unchanged';
    END IF;
    UPDATE app.organizations o SET suspended_at = CASE WHEN wanted THEN clock_timestamp() END
    WHERE o.tenant_id = organization;
    PERFORM platform.record_event(
        organization, CASE WHEN wanted THEN 'organization.suspended' ELSE 'organization.resumed' END,
        'organization', organization::text, jsonb_build_object('reason', reason), request);
    RETURN 'changed';
END
$$;

-- Of everybody or of one account, with or without a session: the platform's chain says that it was done, and how many
-- there were; the chain of each organization, that sessions in it ended.
CREATE OR REPLACE FUNCTION platform.end_sessions(person uuid, reason text, request text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    act CONSTANT text := 'login.ended_by_operator';
    ended record;
    total integer := 0;
BEGIN
    DELETE FROM identity.mfa_challenges c WHERE person IS NULL OR c.account_id = person;
    FOR ended IN
        WITH gone AS (
            UPDATE identity.login_sessions s SET revoked_at = clock_timestamp()
            WHERE (person IS NULL OR s.account_id = person) AND s.revoked_at IS NULL
                AND s.expires_at > clock_timestamp()
            RETURNING s.tenant_id
        )
        SELECT o.tenant_id, g.sessions
        FROM (SELECT gone.tenant_id, count(*)::integer AS sessions FROM gone GROUP BY gone.tenant_id) g
        LEFT JOIN app.organizations o ON o.tenant_id = g.tenant_id
        ORDER BY o.tenant_id
    LOOP
        total := total + ended.sessions;
        CONTINUE WHEN ended.tenant_id IS NULL;
        BEGIN
            PERFORM platform.record_event(
                ended.tenant_id, act, 'login', person::text, jsonb_build_object('reason', reason), request);
        EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: no reason to leave anybody logged in
            RAISE WARNING 'the audit chain of organization % takes no event', ended.tenant_id;
        END;
    END LOOP;
    BEGIN
        PERFORM platform.record_event(
            NULL, act, 'login', person::text, jsonb_build_object('reason', reason, 'sessions', total), request);
    EXCEPTION WHEN unique_violation THEN
        RAISE WARNING 'the audit chain of the platform takes no event';
    END;
    RETURN total;
END
$$;

-- squawk-ignore ban-drop-function
DROP FUNCTION platform.record_operator(uuid, text, text, uuid, text, text);
SET LOCAL ROLE context_owner;
