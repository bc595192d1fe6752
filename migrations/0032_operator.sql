-- The operator's acts: what is done and what is refused stands in the chains, in the transaction of the act itself.

-- The command comes with this migration: nobody else calls these.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.set_suspended(uuid, boolean, text, text);
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.end_sessions(uuid, text, text);
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.record_operator(uuid, text, text, uuid, text, text);

-- An act in the chain of the organization that it concerns, if there is one, and in the platform's. A chain that was
-- tampered with takes no event: no reason to keep the operator from shutting somebody out.
CREATE FUNCTION platform.record_act(
    organization uuid, done text, resource_type text, resource_id text, noted jsonb, request text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chain uuid;
BEGIN
    FOREACH chain IN ARRAY array_remove(ARRAY[organization, platform.organization_id()], NULL) LOOP
        BEGIN
            PERFORM platform.record_event(chain, done, resource_type, resource_id, noted, request);
        EXCEPTION WHEN unique_violation THEN
            RAISE WARNING 'the audit chain of organization % takes no event', chain;
        END;
    END LOOP;
END
$$;

-- `changed`, `unchanged`, `erasing` or `unknown`. What changed nothing stands in the platform's chain alone.
-- noted: {reason, operator}, without personal data.
CREATE FUNCTION platform.set_suspended(organization uuid, wanted boolean, noted jsonb, request text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done CONSTANT text := CASE WHEN wanted THEN 'organization.suspended' ELSE 'organization.resumed' END;
    known app.organizations;
    outcome text;
BEGIN
    SELECT * INTO known FROM app.organizations o
    WHERE o.tenant_id = organization AND o.tenant_id <> platform.organization_id() FOR NO KEY UPDATE;
    outcome := CASE
        WHEN NOT FOUND THEN 'unknown'
        WHEN EXISTS (SELECT FROM platform.deletion_organizations d
                     WHERE d.tenant_id = organization AND d.mode = 'whole') THEN 'erasing'
        WHEN wanted = (known.suspended_at IS NOT NULL) THEN 'unchanged'
        ELSE 'changed' END;
    IF outcome = 'changed' THEN
        UPDATE app.organizations o SET suspended_at = CASE WHEN wanted THEN clock_timestamp() END
        WHERE o.tenant_id = organization;
        PERFORM platform.record_act(organization, done, 'organization', organization::text, noted, request);
    ELSE
        PERFORM platform.record_event(
            NULL, done, 'organization', organization::text, noted || jsonb_build_object('result', outcome), request,
            CASE outcome WHEN 'unchanged' THEN 'success' ELSE 'denied' END);
    END IF;
    RETURN outcome;
END
$$;

-- Of everybody or of one account, with or without a session: the platform's chain says that it was done, and how many
-- there were; the chain of each organization, that sessions in it ended.
CREATE FUNCTION platform.end_sessions(person uuid, noted jsonb, request text) RETURNS integer
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
            PERFORM platform.record_event(ended.tenant_id, act, 'login', person::text, noted, request);
        EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: no reason to leave anybody logged in
            RAISE WARNING 'the audit chain of organization % takes no event', ended.tenant_id;
        END;
    END LOOP;
    PERFORM platform.record_act(
        NULL, act, 'login', person::text, noted || jsonb_build_object('sessions', total), request);
    RETURN total;
END
$$;

-- Jobs that are locked by the caller, queued again with a message that starts them. A failed export begins from its
-- beginning: its parts and files are gone.
CREATE FUNCTION platform.start_anew(wanted uuid[], why text[]) RETURNS SETOF platform.jobs
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET finished_at = NULL, error = NULL
    WHERE deletions.job_id = ANY (wanted) AND deletions.finished_at IS NOT NULL;
    UPDATE platform.exports SET status = 'queued', error = NULL, removed_at = NULL, mail_claimed_until = NULL,
        progress_done = 0, progress_total = 0
    WHERE exports.id = ANY (wanted) AND exports.status = 'failed';
    WITH again AS (
        UPDATE platform.jobs j SET status = 'queued', execution_id = NULL, finished_at = NULL,
            heartbeat_at = clock_timestamp(), last_error = s.error,
            stalls = CASE WHEN s.done > j.done_before THEN 0 ELSE j.stalls + 1 END,
            done_before = greatest(s.done, j.done_before)
        FROM (SELECT w.id, w.error, platform.done_by(w.id) AS done FROM unnest(wanted, why) AS w (id, error)) s
        WHERE s.id = j.id
        RETURNING j.*
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'workflow', CASE a.kind WHEN 'export' THEN 'gdpr_export' ELSE 'gdpr_erasure' END,
               a.id, replace(gen_random_uuid()::text, '-', '')
        FROM again a
    )
    SELECT a.* FROM again a
$$;

-- What the operator is told of a job: ids, codes and times. `state`: failed, stuck (several times in a row it did nothing
-- more), silent (no sign of life for so long), running, queued; of a request that nobody is owed an answer to any more,
-- or that waits for its time, nothing. `next_try_at`: when Cloud Scheduler's job may start it, which comes every five
-- minutes; null where only the operator can.
CREATE FUNCTION platform.jobs_to_see(silence interval, pause interval, every_one boolean, most integer)
RETURNS TABLE (id uuid, kind text, state text, organization_id uuid, queued_at timestamptz, heartbeat_at timestamptz,
               finished_at timestamptz, attempts integer, stalls integer, error text, next_try_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.id, j.kind, s.state, q.tenant_id, j.queued_at, j.heartbeat_at, j.finished_at, j.attempts, j.stalls,
           coalesce(CASE WHEN j.status = 'failed' THEN coalesce(e.error, d.error) END, j.last_error),
           CASE WHEN s.state IN ('stuck', 'silent') THEN
                    j.heartbeat_at + CASE WHEN j.stalls >= 5 THEN pause ELSE silence END
                WHEN s.state = 'failed' AND d.frozen_at IS NOT NULL THEN j.finished_at + pause END
    FROM platform.jobs j
    CROSS JOIN LATERAL (SELECT v.* FROM platform.privacy_queue v WHERE v.job_id = j.id OFFSET 0) q
    LEFT JOIN platform.exports e ON e.id = j.id
    LEFT JOIN platform.deletions d ON d.job_id = j.id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN j.status = 'failed' THEN 'failed' WHEN j.stalls >= 5 THEN 'stuck'
                    WHEN j.heartbeat_at < clock_timestamp() - silence THEN 'silent' ELSE j.status END AS state) s
    WHERE j.status IN ('queued', 'running', 'failed') AND q.open AND NOT q.parked
        AND (every_one OR s.state IN ('failed', 'stuck', 'silent'))
    ORDER BY j.queued_at, j.id LIMIT most
$$;

-- Whether whoever asked for an export may still have it: she works there, and somebody else's data needs export.create.
CREATE FUNCTION platform.may_still_have(e platform.exports) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM app.members m
        JOIN identity.accounts a ON a.id = m.user_id AND a.status = 'active'
        LEFT JOIN platform.roles r ON r.name = m.role
        LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
        WHERE m.user_id = (e).requested_by AND m.tenant_id = (e).organization_id
            AND NOT platform.is_frozen(m.user_id, m.tenant_id)
            AND ((e).scope = 'me' OR 'export.create' = ANY (coalesce(r.permissions, c.permissions))))
    AND ((e).scope <> 'user' OR EXISTS (
        SELECT FROM app.members m WHERE m.user_id = (e).subject_account_id AND m.tenant_id = (e).organization_id
            AND NOT platform.is_frozen(m.user_id, m.tenant_id)))
$$;

-- Why a job cannot be started anew, null when it can. Its row is locked by the caller.
CREATE FUNCTION platform.why_not_anew(j platform.jobs, silence interval) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e platform.exports;
    d platform.deletions;
BEGIN
    SELECT * INTO e FROM platform.exports x WHERE x.id = (j).id;
    SELECT * INTO d FROM platform.deletions x WHERE x.job_id = (j).id;
    RETURN CASE
        WHEN e.id IS NULL AND d.job_id IS NULL THEN 'unknown'
        WHEN (j).status = 'done' THEN 'finished'
        WHEN (j).status = 'cancelled' THEN 'cancelled'
        WHEN EXISTS (SELECT FROM platform.privacy_queue q WHERE q.job_id = (j).id AND q.parked) THEN 'waits'
        WHEN (j).status = 'running' AND (j).heartbeat_at >= clock_timestamp() - silence THEN 'running'
        WHEN (j).status = 'queued' AND (j).heartbeat_at >= clock_timestamp() - silence AND EXISTS (
            SELECT FROM platform.outbox o
            WHERE o.reference = (j).id AND o.kind = 'workflow' AND o.sent_at IS NULL) THEN 'starting'
        WHEN (j).status <> 'failed' THEN NULL
        WHEN e.id IS NOT NULL THEN CASE
            WHEN e.status <> 'failed' THEN 'finished'
            WHEN e.removed_at IS NULL THEN 'settling'
            WHEN NOT platform.may_still_have(e) THEN 'forbidden'
            WHEN EXISTS (SELECT FROM platform.exports o
                         WHERE o.status IN ('queued', 'running') AND o.id <> e.id AND o.scope = e.scope
                             AND o.subject_account_id IS NOT DISTINCT FROM e.subject_account_id
                             AND (o.scope = 'me' OR o.organization_id = e.organization_id)) THEN 'superseded' END
        WHEN d.frozen_at IS NULL THEN 'untouched'
        WHEN EXISTS (SELECT FROM platform.deletions o
                     WHERE o.finished_at IS NULL AND o.tenant_id IS NOT DISTINCT FROM d.tenant_id
                         AND coalesce(o.subject_id, o.tenant_id) = coalesce(d.subject_id, d.tenant_id))
            THEN 'superseded' END;
END
$$;

-- One job by hand, as Cloud Scheduler's job does it for many. `queued`, or why not; either stands in the chain.
CREATE FUNCTION platform.replay_job(wanted uuid, silence interval, noted jsonb, request text)
RETURNS TABLE (outcome text, kind text, state text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    j platform.jobs;
    organization uuid;
    refusal text;
BEGIN
    SELECT * INTO j FROM platform.jobs x WHERE x.id = wanted FOR UPDATE;
    IF NOT FOUND THEN
        refusal := 'unknown';
    ELSE
        refusal := platform.why_not_anew(j, silence);
        SELECT o.tenant_id INTO organization FROM platform.privacy_queue q
        JOIN app.organizations o ON o.tenant_id = q.tenant_id WHERE q.job_id = wanted;
    END IF;
    noted := noted || jsonb_strip_nulls(jsonb_build_object('kind', j.kind, 'status', j.status));
    IF refusal IS NULL THEN
        DELETE FROM platform.job_tenants t USING platform.exports e
        WHERE t.job_id = wanted AND e.id = wanted AND j.status = 'failed' AND NOT EXISTS (
            SELECT FROM app.members m WHERE m.tenant_id = t.tenant_id AND m.user_id = e.requested_by);
        PERFORM platform.start_anew(
            ARRAY[wanted], ARRAY[CASE j.status WHEN 'failed' THEN 'replayed' WHEN 'running' THEN 'no_heartbeat'
                                               ELSE 'not_started' END]);
        IF organization IS NOT NULL THEN
            PERFORM platform.record_event(organization, 'job.replayed', 'job', wanted::text, noted, request);
        END IF;
        PERFORM platform.record_event(NULL, 'job.replayed', 'job', wanted::text, noted, request);
    ELSE
        PERFORM platform.record_event(NULL, 'job.replayed', 'job', wanted::text,
                                      noted || jsonb_build_object('result', refusal), request, 'denied');
    END IF;
    RETURN QUERY SELECT coalesce(refusal, 'queued'), j.kind, j.status;
END
$$;

-- Messages that have not become a task though it is time, and mails and texts that no delivery followed for so long.
CREATE FUNCTION platform.messages_to_see(silence interval, most integer)
RETURNS TABLE (id uuid, kind text, name text, reference uuid, state text, created_at timestamptz, sent_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.kind, o.name, o.reference, CASE WHEN o.sent_at IS NULL THEN 'waiting' ELSE 'undelivered' END,
           o.created_at, o.sent_at
    FROM platform.outbox o
    WHERE (o.sent_at IS NULL AND o.not_before <= clock_timestamp()
           AND o.created_at < clock_timestamp() - interval '1 minute')
        OR (o.kind <> 'workflow' AND o.delivered_at IS NULL AND o.sent_at < clock_timestamp() - silence)
    ORDER BY o.created_at, o.id LIMIT most
$$;

-- Let the next drain send a message: at once, and under a new name if it was a task before. `queued`, or why not.
CREATE FUNCTION platform.send_again(wanted uuid, noted jsonb, request text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    o platform.outbox;
    outcome text;
BEGIN
    SELECT * INTO o FROM platform.outbox x WHERE x.id = wanted FOR UPDATE;
    outcome := CASE
        WHEN o.id IS NULL THEN 'unknown'
        WHEN o.delivered_at IS NOT NULL THEN 'delivered'
        WHEN o.claimed_until > clock_timestamp() THEN 'busy'
        WHEN o.sent_at IS NULL AND o.not_before > clock_timestamp() THEN 'waits'
        WHEN o.sent_at IS NOT NULL AND o.kind = 'workflow' THEN 'started'
        ELSE 'queued' END;
    IF outcome = 'queued' THEN
        UPDATE platform.outbox x SET leased_until = NULL, sent_at = NULL,
            task_name = CASE WHEN o.sent_at IS NULL THEN o.task_name ELSE replace(gen_random_uuid()::text, '-', '') END
        WHERE x.id = wanted;
    ELSE
        noted := noted || jsonb_build_object('result', outcome);
    END IF;
    PERFORM platform.record_event(
        NULL, 'message.sent_again', 'message', wanted::text,
        noted || jsonb_strip_nulls(jsonb_build_object('kind', o.kind, 'purpose', o.name)), request,
        CASE outcome WHEN 'queued' THEN 'success' ELSE 'denied' END);
    RETURN outcome;
END
$$;

-- What a run of the rotation did to each secret, {secret: [steps]}, and which it could not bring up to date: ids alone.
CREATE FUNCTION platform.record_key_run(done jsonb, failed text[], request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF app.sealed(1) IS DISTINCT FROM 's' THEN
        RAISE EXCEPTION 'for system jobs' USING ERRCODE = '42501';
    END IF;
    PERFORM platform.record_event(
        NULL, 'key.rotated', 'key', NULL, jsonb_build_object('steps', done, 'failed', to_jsonb(failed)), request,
        CASE WHEN cardinality(failed) = 0 THEN 'success' ELSE 'failure' END);
END
$$;

-- The organizations by id, the platform's own among them, from `after` on.
CREATE FUNCTION platform.organization_ids(after uuid, most integer) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.tenant_id FROM app.organizations o WHERE after IS NULL OR o.tenant_id > after
    ORDER BY o.tenant_id LIMIT most
$$;

-- The ends of one chain as its rows say; none where there is no such organization. `erasing`: its events go one by one.
CREATE FUNCTION platform.audit_ends(organization uuid)
RETURNS TABLE (head_seq bigint, head_hash text, base_seq bigint, base_hash text, checkpoint jsonb, erasing boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(h.seq, 0), coalesce(h.hash, repeat('0', 64)), coalesce(h.base_seq, 0),
           coalesce(h.base_hash, repeat('0', 64)), h.checkpoint,
           EXISTS (SELECT FROM platform.deletion_organizations d JOIN platform.jobs j ON j.id = d.job_id
                   WHERE d.tenant_id = o.tenant_id AND d.mode = 'whole' AND j.status NOT IN ('done', 'cancelled'))
    FROM app.organizations o LEFT JOIN app.audit_heads h ON h.tenant_id = o.tenant_id
    WHERE o.tenant_id = organization
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.record_act(uuid, text, text, text, jsonb, text)',
        'platform.set_suspended(uuid, boolean, jsonb, text)', 'platform.end_sessions(uuid, jsonb, text)',
        'platform.start_anew(uuid[], text[])', 'platform.jobs_to_see(interval, interval, boolean, integer)',
        'platform.may_still_have(platform.exports)', 'platform.why_not_anew(platform.jobs, interval)',
        'platform.replay_job(uuid, interval, jsonb, text)', 'platform.messages_to_see(interval, integer)',
        'platform.send_again(uuid, jsonb, text)', 'platform.record_key_run(jsonb, text[], text)',
        'platform.organization_ids(uuid, integer)', 'platform.audit_ends(uuid)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;

SET LOCAL ROLE context_definer;
-- What Cloud Scheduler's job does every five minutes, by the same hands.
CREATE OR REPLACE FUNCTION platform.requeue_stuck_jobs(silence interval, pause interval)
RETURNS TABLE (job_id uuid, kind text, attempts integer, stuck boolean, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids uuid[];
    why text[];
BEGIN
    SELECT array_agg(silent.id), array_agg(silent.error) INTO ids, why FROM (
        SELECT j.id, CASE j.status WHEN 'running' THEN 'no_heartbeat' ELSE 'not_started' END AS error
        FROM platform.jobs j
        WHERE j.status IN ('queued', 'running') AND j.kind <> 'retention'
            AND j.heartbeat_at < clock_timestamp() - CASE WHEN j.stalls >= 5 THEN pause ELSE silence END
            AND NOT EXISTS (SELECT FROM platform.privacy_queue q WHERE q.job_id = j.id AND q.parked)
        FOR UPDATE OF j SKIP LOCKED) AS silent;
    RETURN QUERY SELECT a.id, a.kind, a.attempts, a.stalls >= 5, a.last_error FROM platform.start_anew(ids, why) a;
END
$$;

CREATE OR REPLACE FUNCTION platform.requeue_failed_deletions(pause interval)
RETURNS TABLE (job_id uuid, kind text, attempts integer, stuck boolean, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids uuid[];
    why text[];
BEGIN
    SELECT array_agg(failed.id), array_agg(failed.error) INTO ids, why FROM (
        SELECT j.id, d.error FROM platform.jobs j JOIN platform.deletions d ON d.job_id = j.id
        WHERE j.status = 'failed' AND d.frozen_at IS NOT NULL AND j.finished_at < clock_timestamp() - pause
            AND NOT EXISTS (SELECT FROM platform.deletions o
                            WHERE o.finished_at IS NULL AND o.tenant_id IS NOT DISTINCT FROM d.tenant_id
                                AND coalesce(o.subject_id, o.tenant_id) = coalesce(d.subject_id, d.tenant_id))
        FOR UPDATE OF j SKIP LOCKED) AS failed;
    RETURN QUERY SELECT a.id, a.kind, a.attempts, a.stalls >= 5, a.last_error FROM platform.start_anew(ids, why) a;
END
$$;

-- The operator's: no function's login may call them.
GRANT EXECUTE ON FUNCTION
    platform.set_suspended(uuid, boolean, jsonb, text), platform.end_sessions(uuid, jsonb, text),
    platform.jobs_to_see(interval, interval, boolean, integer), platform.replay_job(uuid, interval, jsonb, text),
    platform.messages_to_see(interval, integer), platform.send_again(uuid, jsonb, text),
    platform.organization_ids(uuid, integer), platform.audit_ends(uuid)
    TO context_owner;
GRANT EXECUTE ON FUNCTION platform.record_key_run(jsonb, text[], text) TO keys_fn;
SET LOCAL ROLE context_owner;
