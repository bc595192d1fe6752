-- The proof of an erasure: processors told (Art. 19), what the search outside looks for, the ledger's facts, and the
-- replay of the ledger into a restored database.

-- Whom an erasure was told to, and whether it was acknowledged; goes with the request.
CREATE TABLE platform.deletion_processors (
    job_id uuid NOT NULL REFERENCES platform.deletions ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    told_at timestamptz,
    acknowledged_at timestamptz,
    given_up_at timestamptz,
    last_error text CHECK (length(last_error) <= 200),
    PRIMARY KEY (job_id, name)
);
ALTER TABLE platform.deletion_processors ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.deletion_processors FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.deletion_processors TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.deletion_processors TO context_definer;

-- Enter those of this release; give up those that are tried for longer than `patience`, or are no processors any more.
CREATE FUNCTION platform.give_up_processors(names text[], patience interval) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost text[];
BEGIN
    INSERT INTO platform.deletion_processors (job_id, name)
    SELECT d.job_id, given.name FROM platform.sealed_deletion() d, unnest(names) AS given (name)
    ON CONFLICT (job_id, name) DO NOTHING;
    WITH gone AS (
        UPDATE platform.deletion_processors p SET given_up_at = clock_timestamp()
        FROM platform.sealed_deletion() d
        WHERE p.job_id = d.job_id AND p.told_at IS NULL AND p.given_up_at IS NULL
            AND (p.name <> ALL (names) OR (p.attempts > 0 AND p.created_at <= clock_timestamp() - patience))
        RETURNING p.name
    )
    SELECT array_agg(gone.name ORDER BY gone.name) INTO lost FROM gone;
    RETURN coalesce(lost, '{}');
END
$$;

-- Those whose try is due, and the message. The next try is set before this one is sent: after `pause`, doubled from try
-- to try, an hour at most; whoever sends at the same time skips them.
CREATE FUNCTION platform.claim_processors(names text[], pause interval) RETURNS TABLE (processor text, message text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_processors p SET attempts = p.attempts + 1,
        next_try_at = clock_timestamp() + least(pause * 2 ^ least(p.attempts, 20), interval '1 hour')
    FROM platform.sealed_deletion() d
    WHERE p.job_id = d.job_id AND p.name = ANY (names) AND p.told_at IS NULL AND p.given_up_at IS NULL
        AND p.next_try_at <= clock_timestamp()
    RETURNING p.name, json_build_object(
        'type', 'erasure.requested', 'timestamp', platform.moment(p.created_at),
        'data', json_build_object('deletion_id', d.job_id, 'scope', d.scope, 'subject_id', d.subject_id,
                                  'organization_id', d.tenant_id))::text
$$;

CREATE FUNCTION platform.processor_told(who text, acknowledged boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_processors p SET told_at = coalesce(p.told_at, clock_timestamp()), last_error = NULL,
        acknowledged_at = CASE WHEN acknowledged THEN coalesce(p.acknowledged_at, clock_timestamp())
                               ELSE p.acknowledged_at END
    FROM platform.sealed_deletion() d WHERE p.job_id = d.job_id AND p.name = who
$$;

CREATE FUNCTION platform.processor_failed(who text, why text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_processors p SET last_error = why
    FROM platform.sealed_deletion() d WHERE p.job_id = d.job_id AND p.name = who AND p.told_at IS NULL
$$;

CREATE FUNCTION platform.processors_wait() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM platform.deletion_processors p JOIN platform.sealed_deletion() d ON d.job_id = p.job_id
        WHERE p.told_at IS NULL AND p.given_up_at IS NULL)
$$;

-- The job rests until the first processor's next try, when a new execution takes it; false when the execution has lost it.
CREATE FUNCTION platform.park_for_processors(job uuid, execution text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due timestamptz := (SELECT min(p.next_try_at) FROM platform.deletion_processors p
                        WHERE p.job_id = job AND p.told_at IS NULL AND p.given_up_at IS NULL);
BEGIN
    -- The heartbeat stands in the future, so that a resting job is not taken for a stuck one.
    UPDATE platform.jobs j SET status = 'queued', execution_id = NULL,
        heartbeat_at = greatest(due, clock_timestamp())
    WHERE j.id = job AND j.status = 'running' AND j.execution_id = execution AND app.may_handle(job);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO platform.outbox (id, kind, name, reference, task_name, not_before)
    VALUES (gen_random_uuid(), 'workflow', 'gdpr_erasure', job, replace(gen_random_uuid()::text, '-', ''),
            coalesce(due, clock_timestamp()));
    RETURN true;
END
$$;

-- A processor says that it is done: when, or NULL when it was never told of such an erasure. Its signature was checked.
CREATE FUNCTION platform.acknowledge_deletion(job uuid, who text) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_processors p SET acknowledged_at = coalesce(p.acknowledged_at, clock_timestamp()),
        told_at = coalesce(p.told_at, clock_timestamp())
    WHERE p.job_id = job AND p.name = who AND p.attempts > 0 AND app.is_nobody()
    RETURNING platform.moment(p.acknowledged_at)
$$;

-- What the API shows of the processors, in every state.
CREATE FUNCTION platform.told_processors(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('name', p.name, 'told_at', platform.moment(p.told_at),
                        'acknowledged_at', platform.moment(p.acknowledged_at)) ORDER BY p.name), '[]')
    FROM platform.deletion_processors p WHERE p.job_id = job
$$;

-- What must not be found outside of the database any more, and whose it is. The phone numbers are sealed.
CREATE FUNCTION platform.identifiers_to_find()
RETURNS TABLE (email text, display_name text, phones text[], scope text, subject_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.mail_to, d.name_to_find, d.phones_to_find, d.scope, d.subject_id::text FROM platform.sealed_deletion() d
$$;

-- Log entries with an identifier, as many as the last search found: they stay until the logs expire.
CREATE FUNCTION platform.count_logged(entries bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.deletion_counts AS c (job_id, table_name, action, rows)
    SELECT d.job_id, 'logs', 'keep', entries FROM platform.sealed_deletion() d
    ON CONFLICT (job_id, table_name, action) DO UPDATE SET rows = excluded.rows
$$;

-- What the ledger keeps of the sealed job. A replay of an erasure that the ledger knows is no entry of its own.
CREATE FUNCTION platform.ledger_facts() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'deletion_id', d.job_id, 'scope', d.scope, 'subject_id', d.subject_id, 'organization_id', d.tenant_id,
        'organizations', (SELECT coalesce(json_agg(json_build_object('id', o.tenant_id, 'mode', o.mode)
                                                   ORDER BY o.tenant_id), '[]')
                          FROM platform.deletion_organizations o WHERE o.job_id = d.job_id),
        'holds', (SELECT coalesce(json_agg(json_build_object(
                      'id', h.id, 'organization_id', h.tenant_id, 'subject_id', h.subject_user_id,
                      'until', platform.moment(h.until), 'resources', h.resources) ORDER BY h.id), '[]')
                  FROM app.legal_holds h
                  WHERE (h.tenant_id = d.tenant_id OR d.scope = 'me')
                      AND (h.subject_user_id = d.subject_id OR d.scope = 'organization')
                      AND h.released_at IS NULL AND h.until > clock_timestamp()),
        'received_at', platform.moment(d.received_at), 'receipt_hash', encode(d.receipt_hash, 'hex'),
        'processors', platform.told_processors(d.job_id),
        'written', d.ledger_at IS NOT NULL OR (d.channel = 'replay' AND d.follows IS NOT NULL))
    FROM platform.sealed_deletion() d
$$;

CREATE FUNCTION platform.ledger_written() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions d SET ledger_at = coalesce(d.ledger_at, clock_timestamp())
    FROM platform.sealed_deletion() s WHERE d.job_id = s.job_id
$$;

-- One entry of the ledger, whose signature the caller has checked, against this database. `outcome`: clean (this database
-- has forgotten already), or opened: the job that forgets. The request of an entry that is gone is written anew once its
-- replay is done, so that its receipt and its certificate go on to be good.
CREATE FUNCTION platform.replay_erasure(entry jsonb) RETURNS TABLE (outcome text, job uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    original CONSTANT uuid := (entry ->> 'deletion_id')::uuid;
    person CONSTANT uuid := (entry ->> 'subject_id')::uuid;
    organization CONSTANT uuid := (entry ->> 'organization_id')::uuid;
    wanted CONSTANT text := entry ->> 'scope';
    replayed uuid;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('replay of ' || original, 0));
    SELECT d.job_id INTO replayed FROM platform.deletions d
    WHERE d.finished_at IS NULL AND d.subject_id IS NOT DISTINCT FROM person
        AND d.tenant_id IS NOT DISTINCT FROM organization AND d.scope = wanted;
    -- One that is open for another reason, a later request of somebody who came back, is none of this entry's.
    IF NOT platform.is_back(wanted, person, organization) AND EXISTS (
        SELECT FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id
        WHERE j.status = 'done' AND (d.job_id = original OR (d.follows = original AND d.channel = 'replay')))
        AND NOT EXISTS (SELECT FROM platform.deletions d
                        WHERE d.job_id = replayed AND d.channel = 'replay' AND original IN (d.job_id, d.follows))
    THEN
        PERFORM platform.restore_proof(entry);
        RETURN QUERY SELECT 'clean', original;
        RETURN;
    END IF;
    PERFORM platform.restore_holds(entry);
    IF replayed IS NULL THEN
        replayed := gen_random_uuid();
        PERFORM platform.schedule_deletion(replayed, wanted, person, organization, clock_timestamp());
        UPDATE platform.deletions d SET channel = 'replay', follows = original WHERE d.job_id = replayed;
    ELSIF EXISTS (SELECT FROM platform.deletions d WHERE d.job_id = replayed AND d.channel = 'replay') THEN
        RETURN QUERY SELECT 'opened', replayed; -- by an earlier run
        RETURN;
    END IF;
    PERFORM platform.begin_replay(entry, replayed);
    RETURN QUERY SELECT 'opened', replayed;
END
$$;

-- A request, fresh or one that the restored database holds open although it was completed after the backup: it runs now,
-- as it ran then, and nobody is asked or told a second time.
CREATE FUNCTION platform.begin_replay(entry jsonb, replayed uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE platform.deletions d SET channel = 'replay', approval_needed = false, execute_after = clock_timestamp(),
        policy = CASE WHEN d.scope = 'user' THEN coalesce((
            SELECT CASE o ->> 'mode' WHEN 'erase' THEN 'erase' ELSE 'keep_pseudonymous' END
            FROM jsonb_array_elements(entry -> 'organizations') o
            WHERE (o ->> 'id')::uuid = d.tenant_id), d.policy) ELSE d.policy END
    WHERE d.job_id = replayed;
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT replayed, (o ->> 'id')::uuid FROM jsonb_array_elements(entry -> 'organizations') o
    ON CONFLICT DO NOTHING;
    INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode)
    SELECT replayed, (o ->> 'id')::uuid, o ->> 'mode' FROM jsonb_array_elements(entry -> 'organizations') o
    WHERE o ->> 'mode' = 'whole'
    ON CONFLICT (job_id, tenant_id) DO UPDATE SET mode = excluded.mode;
    UPDATE platform.jobs j SET status = 'queued', execution_id = NULL, heartbeat_at = clock_timestamp()
    WHERE j.id = replayed AND j.status IN ('queued', 'running');
    PERFORM platform.post_erasure(replayed, clock_timestamp());
END
$$;

-- The legal holds that were in force when the erasure ended, where this database does not know them: what they kept then
-- is kept again. Who made them and why, the ledger does not know.
CREATE FUNCTION platform.restore_holds(entry jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO app.legal_holds (tenant_id, id, subject_user_id, reason, until, resources, created_by)
    SELECT o.tenant_id, (h ->> 'id')::uuid, (h ->> 'subject_id')::uuid, 'Restored from the ledger of erasures.',
           (h ->> 'until')::timestamptz, nullif(h -> 'resources', 'null'), '00000000-0000-0000-0000-000000000000'
    FROM jsonb_array_elements(entry -> 'holds') h
    JOIN app.organizations o ON o.tenant_id = (h ->> 'organization_id')::uuid
    WHERE (h ->> 'until')::timestamptz > clock_timestamp()
    ON CONFLICT (tenant_id, id) DO NOTHING
$$;

-- Whether what an erasure took stands here as if nothing had happened. What a legal hold retains is frozen or suspended.
CREATE FUNCTION platform.is_back(wanted text, person uuid, organization uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (wanted = 'me' AND EXISTS (
               SELECT FROM identity.accounts a WHERE a.id = person AND a.status = 'active'))
        OR (wanted = 'organization' AND EXISTS (
               SELECT FROM app.organizations o WHERE o.tenant_id = organization AND o.suspended_at IS NULL))
$$;

-- The completed request of an entry, where it is gone: its receipt opens the same certificate as before.
CREATE FUNCTION platform.restore_proof(entry jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    original CONSTANT uuid := (entry ->> 'deletion_id')::uuid;
    completed CONSTANT timestamptz := (entry ->> 'completed_at')::timestamptz;
BEGIN
    INSERT INTO platform.jobs (id, kind, status, finished_at) VALUES (original, 'deletion', 'done', completed)
    ON CONFLICT (id) DO UPDATE SET status = 'done', finished_at = excluded.finished_at
        WHERE jobs.status IN ('failed', 'cancelled');
    INSERT INTO platform.deletions (job_id, subject_id, tenant_id, scope, received_at, execute_after, due_at,
                                    completed_at, finished_at, receipt_hash, certificate, ledger_at)
    VALUES (original, (entry ->> 'subject_id')::uuid, (entry ->> 'organization_id')::uuid, entry ->> 'scope',
            (entry ->> 'received_at')::timestamptz, (entry ->> 'received_at')::timestamptz,
            (entry ->> 'received_at')::timestamptz + interval '1 month', completed, completed,
            decode(entry ->> 'receipt_hash', 'hex'), entry -> 'certificate', completed)
    ON CONFLICT (job_id) DO UPDATE SET completed_at = excluded.completed_at, finished_at = excluded.finished_at,
        certificate = excluded.certificate, ledger_at = excluded.ledger_at, error = NULL, reason = NULL, mail_to = NULL,
        name_to_find = NULL
        WHERE deletions.certificate IS NULL;
END
$$;

-- Where a replay stands: the job's status, or `held` until a legal hold ends; and the step that is not over.
CREATE FUNCTION platform.replay_state(wanted uuid) RETURNS TABLE (status text, step text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN j.status = 'queued' AND d.execute_after > clock_timestamp() THEN 'held' ELSE j.status END,
           (SELECT s.name FROM platform.deletion_steps s
            WHERE s.job_id = wanted AND s.status NOT IN ('done', 'skipped') ORDER BY s.position LIMIT 1)
    FROM platform.jobs j JOIN platform.deletions d ON d.job_id = j.id WHERE j.id = wanted
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.give_up_processors(text[], interval)', 'platform.claim_processors(text[], interval)',
        'platform.processor_told(text, boolean)', 'platform.processor_failed(text, text)',
        'platform.processors_wait()', 'platform.park_for_processors(uuid, text)',
        'platform.acknowledge_deletion(uuid, text)', 'platform.told_processors(uuid)',
        'platform.identifiers_to_find()', 'platform.count_logged(bigint)', 'platform.ledger_facts()',
        'platform.ledger_written()', 'platform.replay_erasure(jsonb)',
        'platform.is_back(text, uuid, uuid)', 'platform.restore_holds(jsonb)', 'platform.begin_replay(jsonb, uuid)', 'platform.restore_proof(jsonb)',
        'platform.replay_state(uuid)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.give_up_processors(text[], interval),
    platform.claim_processors(text[], interval), platform.processor_told(text, boolean),
    platform.processor_failed(text, text), platform.processors_wait(), platform.park_for_processors(uuid, text),
    platform.identifiers_to_find(), platform.count_logged(bigint), platform.ledger_facts(), platform.ledger_written()
    TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.acknowledge_deletion(uuid, text) TO deletions_fn;
-- The operator's, as set_suspended is: no function's login may call them.
GRANT EXECUTE ON FUNCTION platform.replay_erasure(jsonb), platform.replay_state(uuid)
    TO context_owner;
SET LOCAL ROLE context_owner;
