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

-- Events in an organization's chain by whom the caller has found out to be there. For definer functions alone: the
-- transaction is sealed for that moment, and afterwards as it was. `kind` and what follows as in a seal.
CREATE FUNCTION platform.append_as(kind text, organization uuid, principal uuid, credential uuid, events jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := coalesce(current_setting('app.context', true), '');
    seal text := concat_ws('.', kind, organization, coalesce(principal::text, ''), coalesce(credential::text, ''),
                           pg_backend_pid(), (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac bytea;
BEGIN
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    PERFORM app.append_audit(events);
    PERFORM set_config('app.context', before, true);
END
$$;

-- One event by the system in an organization's chain or, given none, in the platform's. No function's login may call it:
-- each gets a narrow function that does.
CREATE FUNCTION platform.record_event(
    organization uuid, done text, resource_type text, resource_id text, data jsonb, request text,
    outcome text DEFAULT 'success'
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.append_as('s', coalesce(organization, platform.organization_id()), NULL, NULL,
        jsonb_build_array(jsonb_build_object(
            'action', done, 'resource_type', resource_type, 'resource_id', resource_id, 'outcome', outcome,
            'request_id', request, 'data', coalesce(data, '{}'), 'personal', NULL)))
$$;

-- Up to `most` events behind a seq, whole, of an organization's chain or, given none, the platform's: for the operator,
-- who checks all chains. A double of the last one comes with it, lest it hide between two pages.
CREATE FUNCTION platform.audit_page(organization uuid, after bigint, most integer) RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT app.audit_event_json(e) FROM app.audit_events e
    WHERE e.tenant_id = coalesce(organization, platform.organization_id())
        AND e.seq > greatest(after, (SELECT h.base_seq FROM app.audit_heads h
                                     WHERE h.tenant_id = coalesce(organization, platform.organization_id())))
    ORDER BY e.seq FETCH FIRST (most) ROWS WITH TIES
$$;

ALTER FUNCTION platform.append_as(text, uuid, uuid, uuid, jsonb) OWNER TO context_definer;
ALTER FUNCTION platform.record_event(uuid, text, text, text, jsonb, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.audit_page(uuid, bigint, integer) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.record_event(uuid, text, text, text, jsonb, text, text),
    platform.audit_page(uuid, bigint, integer) TO context_owner;
SET LOCAL ROLE context_owner;
