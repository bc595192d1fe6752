-- Anchors of the audit chains outside the database, and retention, which drops a chain's events up to an anchored one.

-- What was anchored last, so that a run finds the heads that have moved. Whoever verifies trusts the bucket, not this.
ALTER TABLE app.audit_heads ADD COLUMN anchored_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE app.audit_heads ADD COLUMN anchored_at timestamptz; -- null: never, or not since the base has moved

-- The base of the sealed organization's chain.
CREATE FUNCTION app.audit_base() RETURNS bigint
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(h.base_seq), 0) FROM app.audit_heads h WHERE h.tenant_id = app.tenant_id()
$$;

-- Nobody reads what retention has dropped, though its rows may stand a moment longer; and events go with the whole
-- organization or when the base has passed them, whoever asks.
CREATE POLICY behind_the_base ON app.audit_events AS RESTRICTIVE FOR SELECT TO audit_fn, exports_jobs_fn
    USING (seq > (SELECT app.audit_base()));
DROP POLICY erased_as_a_whole ON app.audit_events;
CREATE POLICY erased_as_a_whole_or_dropped ON app.audit_events AS RESTRICTIVE FOR DELETE TO context_definer
    USING ((SELECT platform.erases_organization()) OR seq <= (SELECT app.audit_base()));

-- Seals the transaction for an organization's chain; what it was sealed for before. For definer functions alone.
CREATE FUNCTION platform.enter_chain(organization uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := coalesce(current_setting('app.context', true), '');
    seal text := concat_ws('.', 's', organization, '', '', pg_backend_pid(),
                           (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac bytea;
BEGIN
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    RETURN before;
END
$$;

-- The chains to anchor, those that wait longest first: head or base have moved, or the last anchor is older than `idle`.
-- Also one whose head was put back to nothing: that is found then.
-- Not of an organization that is being erased as a whole: its events go one by one.
CREATE FUNCTION platform.due_anchors(idle interval) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id FROM app.audit_heads h
    WHERE (h.seq > 0 OR h.anchored_seq > 0)
        AND (h.anchored_at IS NULL OR h.seq <> h.anchored_seq OR h.anchored_at < now() - idle)
        AND NOT EXISTS (SELECT FROM platform.deletion_organizations d
                        WHERE d.tenant_id = h.tenant_id AND d.mode = 'whole')
    ORDER BY h.anchored_at NULLS FIRST, h.tenant_id
$$;

-- The ends of these chains; none of an organization that is gone or being erased as a whole.
CREATE FUNCTION platform.chain_ends(organizations uuid[])
RETURNS TABLE (organization_id uuid, base_seq bigint, base_hash text, seq bigint, hash text, checkpoint jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id, h.base_seq, h.base_hash, h.seq, h.hash, h.checkpoint FROM app.audit_heads h
    WHERE h.tenant_id = ANY (organizations) AND (h.seq > 0 OR h.anchored_seq > 0)
        AND NOT EXISTS (SELECT FROM platform.deletion_organizations d
                        WHERE d.tenant_id = h.tenant_id AND d.mode = 'whole')
$$;

-- Up to `most` events behind a seq without their personal parts, as JSON text: what their hashes are over, and those.
-- A double of the last one comes with it.
CREATE FUNCTION platform.audit_links(organization uuid, after bigint, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'seq', e.seq, 'at', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor', json_build_object('type', e.actor_type, 'id', e.actor_id), 'action', e.action,
        'resource', json_build_object('type', e.resource_type, 'id', e.resource_id), 'outcome', e.outcome,
        'request_id', e.request_id, 'data', e.data, 'personal_hash', e.personal_hash, 'prev_hash', e.prev_hash,
        'hash', e.hash)::text
    FROM app.audit_events e WHERE e.tenant_id = organization AND e.seq > after
    ORDER BY e.seq FETCH FIRST (most) ROWS WITH TIES
$$;

-- An anchor of this base and this event is in the bucket.
CREATE FUNCTION platform.mark_anchored(organization uuid, base bigint, event bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := platform.enter_chain(organization);
BEGIN
    UPDATE app.audit_heads h SET anchored_seq = greatest(h.anchored_seq, event), anchored_at = clock_timestamp()
    WHERE h.tenant_id = organization AND h.base_seq = base AND h.seq >= event;
    PERFORM set_config('app.context', before, true);
END
$$;

-- A chain that does not hold, in the platform's chain: the same place once a day.
CREATE FUNCTION platform.report_broken(organization uuid, event bigint, request text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM app.audit_events e
               WHERE e.tenant_id = platform.organization_id() AND e.action = 'audit.broken'
                   AND e.resource_id = organization::text AND e.data ->> 'seq' = event::text
                   AND e.at > clock_timestamp() - interval '20 hours') THEN
        RETURN false;
    END IF;
    PERFORM platform.record_event(
        NULL, 'audit.broken', 'organization', organization::text,
        jsonb_build_object('organization_id', organization, 'seq', event), request);
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RAISE WARNING 'the audit chain of the platform takes no event';
    RETURN false;
END
$$;

-- The time before which events are over by the register.
CREATE FUNCTION platform.audit_horizon() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT now() - (g.rules ->> 'period')::interval FROM platform.register g WHERE g.name = 'app.audit_events'
$$;

-- The chains whose first event is over, or of which dropped events still stand, with the first seq that stands.
CREATE FUNCTION platform.old_chains() RETURNS TABLE (organization_id uuid, first_seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id, f.seq
    FROM app.audit_heads h
    CROSS JOIN LATERAL (SELECT e.seq, e.at FROM app.audit_events e WHERE e.tenant_id = h.tenant_id
                        ORDER BY e.seq LIMIT 1) f
    WHERE (f.seq <= h.base_seq OR f.at < platform.audit_horizon())
        AND NOT EXISTS (SELECT FROM platform.deletion_organizations d
                        WHERE d.tenant_id = h.tenant_id AND d.mode = 'whole')
    ORDER BY h.tenant_id
$$;

-- The first event behind `after` and up to `upto` that has to stay: it is not over, or a person in it is under a hold.
CREATE FUNCTION platform.first_kept(organization uuid, after bigint, upto bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own CONSTANT jsonb := (SELECT g.rules FROM platform.register g WHERE g.name = 'app.audit_events');
    held text := '';
    found bigint;
BEGIN
    IF EXISTS (SELECT FROM app.legal_holds h
               WHERE h.tenant_id = organization AND h.released_at IS NULL AND h.until > now()) THEN
        held := coalesce(' OR ' || platform.held_text('app.audit_events', own, 't'), '');
    END IF;
    EXECUTE format('SELECT t.seq FROM app.audit_events t WHERE t.tenant_id = $1 AND t.seq > $2 AND t.seq <= $3'
                   ' AND (t.at >= $4%s) ORDER BY t.seq LIMIT 1', held)
    INTO found USING organization, after, upto, platform.audit_horizon();
    RETURN found;
END
$$;

-- Moves a chain's base from `was` to an event, with the signed checkpoint that says so: `moved`; `raced` when another run
-- has done it; `refused` unless the event is there with this hash and was anchored, everything up to it is there and
-- over, nobody in it is under a hold, and the checkpoint speaks of this. Takes the head's row for no more than the last
-- statement: writers do not wait.
CREATE FUNCTION platform.move_audit_base(organization uuid, was bigint, event bigint, digest text, signed jsonb)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text;
    known app.audit_heads;
    outcome text;
BEGIN
    SELECT * INTO known FROM app.audit_heads h WHERE h.tenant_id = organization AND h.base_seq = was;
    IF NOT FOUND THEN
        RETURN 'raced';
    END IF;
    IF event <= was OR event > known.anchored_seq
        OR NOT EXISTS (SELECT FROM app.audit_events e
                       WHERE e.tenant_id = organization AND e.seq = event AND e.hash = digest)
        OR event - was <> (SELECT count(*) FROM app.audit_events e
                           WHERE e.tenant_id = organization AND e.seq > was AND e.seq <= event)
        OR platform.first_kept(organization, was, event) IS NOT NULL
        OR NOT signed @> jsonb_build_object(
            'kind', 'audit_checkpoint', 'organization_id', organization,
            'base', jsonb_build_object('seq', event, 'hash', digest),
            'before', jsonb_build_object('seq', was, 'hash', known.base_hash))
    THEN
        RETURN 'refused';
    END IF;
    before := platform.enter_chain(organization);
    UPDATE app.audit_heads h SET base_seq = event, base_hash = digest, checkpoint = signed, anchored_at = NULL
    WHERE h.tenant_id = organization AND h.base_seq = was AND h.seq >= event;
    outcome := CASE WHEN FOUND THEN 'moved' ELSE 'raced' END;
    PERFORM set_config('app.context', before, true);
    RETURN outcome;
END
$$;

-- Deletes what stands of the events in (after, after + most] up to the base; their number. Rows that an erasure has
-- locked stay for the next run.
CREATE FUNCTION platform.drop_events(organization uuid, after bigint, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := platform.enter_chain(organization);
    base CONSTANT bigint := app.audit_base();
    over bigint[];
BEGIN
    SELECT array_agg(f.seq) INTO over FROM (
        SELECT e.seq FROM app.audit_events e
        WHERE e.tenant_id = organization AND e.seq > after AND e.seq <= least(after + most, base)
        ORDER BY e.seq FOR UPDATE SKIP LOCKED) f;
    DELETE FROM app.audit_events e WHERE e.tenant_id = organization AND e.seq = ANY (over);
    PERFORM set_config('app.context', before, true);
    PERFORM platform.count_retired(organization, 'app.audit_events', coalesce(cardinality(over), 0)); -- 0030
    RETURN coalesce(cardinality(over), 0);
END
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'app.audit_base()', 'platform.enter_chain(uuid)', 'platform.due_anchors(interval)',
        'platform.chain_ends(uuid[])', 'platform.audit_links(uuid, bigint, integer)',
        'platform.mark_anchored(uuid, bigint, bigint)', 'platform.report_broken(uuid, bigint, text)',
        'platform.audit_horizon()', 'platform.old_chains()', 'platform.first_kept(uuid, bigint, bigint)',
        'platform.move_audit_base(uuid, bigint, bigint, text, jsonb)',
        'platform.drop_events(uuid, bigint, integer)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.audit_base() TO audit_fn, exports_jobs_fn;
GRANT EXECUTE ON FUNCTION
    platform.due_anchors(interval), platform.chain_ends(uuid[]), platform.audit_links(uuid, bigint, integer),
    platform.mark_anchored(uuid, bigint, bigint), platform.report_broken(uuid, bigint, text), platform.old_chains(),
    platform.first_kept(uuid, bigint, bigint), platform.move_audit_base(uuid, bigint, bigint, text, jsonb),
    platform.drop_events(uuid, bigint, integer)
    TO retention_fn;
SET LOCAL ROLE context_owner;
