-- The data-protection officer's desk: requests that came by letter, time limits, reminders, jobs that get no further.

-- A request has a month from the day it was received, whatever the day it was typed in.
ALTER TABLE platform.exports ADD COLUMN channel text NOT NULL DEFAULT 'api';
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.exports ADD CONSTRAINT exports_channel_check CHECK (channel IN ('api', 'letter'));
ALTER TABLE platform.exports ADD COLUMN received_at timestamptz NOT NULL DEFAULT now();
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.exports ADD COLUMN note text CHECK (length(note) <= 1000);
ALTER TABLE platform.exports ADD COLUMN extended_at timestamptz;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.exports ADD COLUMN extension_reason text CHECK (length(extension_reason) <= 1000);
ALTER TABLE platform.exports ALTER COLUMN note SET STATISTICS 0;
ALTER TABLE platform.exports ALTER COLUMN extension_reason SET STATISTICS 0;

-- What a job had done when it was last started anew, and how often in a row it had done no more than that.
ALTER TABLE platform.jobs ADD COLUMN done_before bigint NOT NULL DEFAULT 0;
ALTER TABLE platform.jobs ADD COLUMN stalls integer NOT NULL DEFAULT 0;
ALTER TABLE platform.jobs ADD COLUMN last_error text; -- a code of ours, never a text that came from elsewhere

-- A mail about a time limit: to a member, or, without one, to the person of the request (kind extended) or the
-- platform's operator. Each is written once, together with its outbox row.
CREATE TABLE platform.privacy_notices (
    id uuid PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES platform.jobs ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('week', 'two_days', 'overdue', 'extended')),
    due_at timestamptz NOT NULL,
    account_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT privacy_notices_once UNIQUE NULLS NOT DISTINCT (job_id, kind, due_at, account_id)
);
CREATE INDEX privacy_notices_by_account ON platform.privacy_notices (account_id);
ALTER TABLE platform.privacy_notices ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.privacy_notices FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.privacy_notices TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.privacy_notices TO context_definer;

CREATE INDEX jobs_unfinished ON platform.jobs (id) WHERE status IN ('queued', 'running', 'failed');
CREATE INDEX job_tenants_by_tenant ON platform.job_tenants (tenant_id);

-- Calendar months in UTC, whatever the session's time zone: from 31 January to the last day of February.
CREATE FUNCTION platform.months_after(moment timestamptz, months integer) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (moment AT TIME ZONE 'UTC' + make_interval(months => months)) AT TIME ZONE 'UTC';

-- How much a job has done: a number that grows with every part, batch and step that is finished.
CREATE FUNCTION platform.done_by(job uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT count(*) FROM platform.export_parts p WHERE p.job_id = job AND p.status = 'done')
        + (SELECT count(*) FROM platform.deletion_steps s WHERE s.job_id = job AND s.status IN ('done', 'skipped'))
        + (SELECT coalesce(sum(s.rows), 0)::bigint FROM platform.deletion_steps s WHERE s.job_id = job)
        + (SELECT coalesce(sum(c.rows), 0)::bigint FROM platform.deletion_counts c WHERE c.job_id = job)
$$;

-- Exports and erasures alike. `tenant_id` is who answers the request, nobody where the platform does. `open`: it is owed
-- an answer; a failed one too, until the person has asked again. `parked`: nothing has to happen to it now (a part that
-- nobody decides about in time begins by itself). What a legal hold keeps is due a month after the hold's end.
CREATE VIEW platform.privacy_queue AS
SELECT e.id AS job_id, 'export' AS kind, e.scope, CASE WHEN e.scope <> 'me' THEN e.organization_id END AS tenant_id,
       e.subject_account_id AS subject_id, e.requested_by, e.channel,
       CASE WHEN e.status = 'ready' AND e.expires_at <= now() THEN 'expired' ELSE e.status END AS status,
       e.status IN ('queued', 'running')
           OR (e.status = 'failed' AND NOT EXISTS (
                   SELECT FROM platform.exports l
                   WHERE l.subject_account_id IS NOT DISTINCT FROM e.subject_account_id AND l.scope = e.scope
                       AND (l.scope = 'me' OR l.organization_id = e.organization_id)
                       AND l.requested_at > e.requested_at)) AS open,
       false AS parked, e.received_at, e.due_at, e.completed_at, e.extended_at, e.extension_reason, e.note,
       e.error AS reason
FROM platform.exports e
UNION ALL
SELECT d.job_id, 'deletion', d.scope, d.tenant_id, d.subject_id, d.requested_by, d.channel, s.status,
       s.status IN ('scheduled', 'awaiting_approval', 'running')
           OR (s.status = 'failed' AND NOT EXISTS (
                   SELECT FROM platform.deletions l
                   WHERE l.subject_id IS NOT DISTINCT FROM d.subject_id AND l.scope = d.scope
                       AND l.tenant_id IS NOT DISTINCT FROM d.tenant_id AND l.received_at > d.received_at)),
       d.execute_after > now() OR (s.status = 'awaiting_approval' AND (d.parent_id IS NULL OR d.due_at > now())),
       d.received_at,
       CASE WHEN d.channel = 'hold_end' THEN greatest(d.due_at, platform.months_after(d.execute_after, 1))
            ELSE d.due_at END, d.completed_at,
       d.extended_at, d.extension_reason, d.reason, coalesce(d.refused_reason, d.error)
FROM platform.deletions d
JOIN platform.jobs j ON j.id = d.job_id
CROSS JOIN LATERAL (SELECT platform.deletion_status(d, j.status) AS status) s;

-- One line of the queue as the API shows it. Of a person's own request an organization sees no more than it needs.
CREATE FUNCTION platform.privacy_item(q platform.privacy_queue) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'id', q.job_id, 'kind', q.kind, 'scope', q.scope, 'subject_user_id', q.subject_id, 'status', q.status,
        'channel', q.channel, 'received_at', platform.utc(q.received_at), 'due_at', platform.utc(q.due_at),
        'completed_at', platform.utc(q.completed_at), 'extended', q.extended_at IS NOT NULL,
        'extension_reason', q.extension_reason, 'overdue', q.open AND q.due_at <= now(),
        'days_left', CASE WHEN q.open THEN floor(extract(epoch FROM q.due_at - now()) / 86400)::integer END,
        'stuck', q.open AND NOT q.parked AND j.stalls >= 5 AND platform.done_by(j.id) <= j.done_before,
        'reason', CASE WHEN q.open OR q.status IN ('failed', 'refused') THEN coalesce(q.reason, j.last_error) END,
        'step', (SELECT s.name FROM platform.deletion_steps s
                 WHERE s.job_id = q.job_id AND s.status IN ('running', 'failed') ORDER BY s.position LIMIT 1),
        'attempts', j.attempts, 'requested_by', q.requested_by, 'note', CASE WHEN q.tenant_id IS NOT NULL THEN q.note END)
    FROM platform.jobs j WHERE j.id = q.job_id
$$;

-- What concerns the sealed organization: what it answers itself, the copies that hold its rows, and the erasures of
-- members that have not come to it yet (as soon as they have, it has a part of its own).
CREATE FUNCTION platform.privacy_concerns() RETURNS SETOF platform.privacy_queue
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.* FROM (
        SELECT e.id FROM platform.exports e WHERE e.organization_id = app.tenant_id() AND e.scope <> 'me'
        UNION
        SELECT e.id FROM platform.job_tenants t JOIN platform.exports e ON e.id = t.job_id AND e.scope = 'me'
        WHERE t.tenant_id = app.tenant_id()
        UNION
        SELECT d.job_id FROM platform.deletions d WHERE d.tenant_id = app.tenant_id()
        UNION
        SELECT d.job_id FROM app.members m
        JOIN platform.deletions d ON d.subject_id = m.user_id AND d.scope = 'me' AND d.finished_at IS NULL
        WHERE m.tenant_id = app.tenant_id()
            AND NOT EXISTS (SELECT FROM platform.deletions c
                            WHERE c.parent_id = d.job_id AND c.tenant_id = app.tenant_id())) concerned
    CROSS JOIN LATERAL (SELECT v.* FROM platform.privacy_queue v WHERE v.job_id = concerned.id OFFSET 0) q
$$;

CREATE FUNCTION platform.privacy_requests(
    wanted_kind text, wanted_status text, wanted_overdue boolean, before timestamptz, before_id uuid, most integer
) RETURNS TABLE (received_at timestamptz, job_id uuid, item json)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.received_at, q.job_id, platform.privacy_item(q) FROM platform.privacy_concerns() q
    WHERE app.sealed_holds('{audit.view}') AND (q.received_at, q.job_id) < (before, before_id)
        AND (wanted_kind IS NULL OR q.kind = wanted_kind) AND (wanted_status IS NULL OR q.status = wanted_status)
        AND (wanted_overdue IS NULL OR (q.open AND q.due_at <= now()) = wanted_overdue)
    ORDER BY q.received_at DESC, q.job_id DESC LIMIT most
$$;

CREATE FUNCTION platform.privacy_request(wanted uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.privacy_item(q) FROM platform.privacy_concerns() q
    WHERE q.job_id = wanted AND (app.sealed_holds('{audit.view}') OR app.sealed_holds('{deletion.create}'))
$$;

-- Up to two further months from the day of receipt, once, while the first month lasts (Art. 12(3)); the person is told.
CREATE FUNCTION platform.extend_request(wanted uuid, more integer, why text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.privacy_queue;
    due timestamptz;
    notice uuid := gen_random_uuid();
BEGIN
    IF NOT app.sealed_holds('{deletion.create}') OR more NOT IN (1, 2) THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    END IF;
    -- The job first, as every step does; then what another extension has just written is seen.
    PERFORM FROM platform.jobs j WHERE j.id IN (SELECT q.job_id FROM platform.privacy_concerns() q WHERE q.job_id = wanted)
    FOR UPDATE;
    SELECT q.* INTO known FROM platform.privacy_concerns() q WHERE q.job_id = wanted;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF known.tenant_id IS NULL THEN
        RETURN 'platform';
    ELSIF NOT known.open THEN
        RETURN 'over';
    ELSIF known.extended_at IS NOT NULL THEN
        RETURN 'extended';
    ELSIF known.due_at <= clock_timestamp() THEN
        RETURN 'late';
    END IF;
    due := platform.months_after(known.received_at, 1 + more);
    UPDATE platform.exports e SET due_at = due, extended_at = now(), extension_reason = why WHERE e.id = wanted;
    UPDATE platform.deletions d SET due_at = due, extended_at = now(), extension_reason = why WHERE d.job_id = wanted;
    INSERT INTO platform.privacy_notices (id, job_id, kind, due_at) VALUES (notice, wanted, 'extended', due);
    INSERT INTO platform.outbox (id, kind, name, reference, task_name)
    VALUES (gen_random_uuid(), 'mail', 'privacy_notice', notice, replace(gen_random_uuid()::text, '-', ''));
    RETURN 'done';
END
$$;

-- Seven days and two days before a request is due, and once it is overdue: mails to the members who may act on it, to
-- the platform's operator where nobody else answers. Each is written once: a second run, also at once, finds it.
CREATE FUNCTION platform.remind_of_deadlines(to_operator boolean)
RETURNS TABLE (job_id uuid, kind text, mails integer, operator boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT q.job_id, l.kind, q.due_at, q.tenant_id
        FROM platform.jobs j
        CROSS JOIN LATERAL (SELECT v.* FROM platform.privacy_queue v WHERE v.job_id = j.id OFFSET 0) q
        CROSS JOIN LATERAL (
            SELECT CASE WHEN q.due_at <= clock_timestamp() THEN 'overdue'
                        WHEN q.due_at <= clock_timestamp() + interval '2 days' THEN 'two_days' ELSE 'week' END AS kind) l
        WHERE j.status IN ('queued', 'running', 'failed') AND q.open
            AND q.due_at <= clock_timestamp() + interval '7 days'
            AND NOT EXISTS (SELECT FROM platform.privacy_notices n
                            WHERE n.job_id = q.job_id AND n.kind = l.kind AND n.due_at = q.due_at)
    ), written AS (
        INSERT INTO platform.privacy_notices (id, job_id, kind, due_at, account_id)
        SELECT gen_random_uuid(), due.job_id, due.kind, due.due_at, who.user_id
        FROM due
        LEFT JOIN LATERAL (
            SELECT m.user_id
            FROM app.members m
            JOIN identity.accounts a ON a.id = m.user_id AND a.status = 'active'
            LEFT JOIN platform.roles r ON r.name = m.role
            LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
            WHERE m.tenant_id = due.tenant_id AND 'deletion.create' = ANY (coalesce(r.permissions, c.permissions))
            ORDER BY m.role = 'owner' DESC NULLS LAST, m.created_at, m.user_id
            LIMIT 20) who ON true
        ON CONFLICT ON CONSTRAINT privacy_notices_once DO NOTHING
        RETURNING privacy_notices.*
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'mail', 'privacy_notice', w.id, replace(gen_random_uuid()::text, '-', '')
        FROM written w WHERE w.account_id IS NOT NULL OR to_operator
    )
    SELECT w.job_id, w.kind, count(*)::integer, bool_or(w.account_id IS NULL) FROM written w GROUP BY w.job_id, w.kind
$$;

-- Whom the mail of an outbox row goes to (nobody: the platform's operator), and what it says. An erased person's address
-- may stand in the request alone, as long as it is needed for the last mail.
CREATE FUNCTION platform.privacy_notice(mail uuid)
RETURNS TABLE (kind text, email text, request uuid, request_kind text, scope text, due_on text, received_on text,
               reason text, organization text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.kind,
           CASE WHEN n.kind = 'extended' THEN coalesce(s.email, d.mail_to, p.mail_to) ELSE a.email END,
           q.job_id, q.kind, q.scope, to_char(n.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
           to_char(q.received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), q.extension_reason, g.name
    FROM platform.outbox o
    JOIN platform.privacy_notices n ON n.id = o.reference
    JOIN platform.privacy_queue q ON q.job_id = n.job_id
    LEFT JOIN identity.accounts a ON a.id = n.account_id
    LEFT JOIN identity.accounts s ON s.id = coalesce(q.subject_id, q.requested_by)
    LEFT JOIN platform.deletions d ON d.job_id = n.job_id
    LEFT JOIN platform.deletions p ON p.job_id = d.parent_id
    LEFT JOIN app.organizations g ON g.tenant_id = q.tenant_id
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL AND app.is_nobody()
        AND (n.account_id IS NULL OR a.status = 'active')
        AND (n.kind = 'extended' OR q.open)
$$;

-- A request that came by letter: a copy starts at once, an erasure once it is approved. Outcome: ok or legal_hold, or why
-- not (see platform.check_deletion).
CREATE FUNCTION platform.receive_export(new_id uuid, person uuid, received timestamptz, noted text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT app.sealed_holds('{deletion.create,export.create}') THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    ELSIF NOT platform.request_export(new_id, 'user', person, 'json') THEN
        RETURN 'unknown';
    END IF;
    UPDATE platform.exports e SET channel = 'letter', received_at = received,
        due_at = platform.months_after(received, 1), note = noted
    WHERE e.id = new_id;
    INSERT INTO platform.outbox (id, kind, name, reference, task_name)
    VALUES (gen_random_uuid(), 'workflow', 'gdpr_export', new_id, replace(gen_random_uuid()::text, '-', ''));
    RETURN 'ok';
END
$$;

CREATE FUNCTION platform.receive_erasure(
    new_id uuid, person uuid, received timestamptz, noted text, grace interval
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    outcome text := platform.request_deletion(new_id, 'user', person, grace, '', noted, 'letter', received);
BEGIN
    IF outcome IN ('ok', 'legal_hold') THEN -- else there is no new request, and the id may be another's
        UPDATE platform.deletions d SET due_at = platform.months_after(received, 1) WHERE d.job_id = new_id;
    END IF;
    RETURN outcome;
END
$$;

-- Jobs without a heartbeat for `silence` are queued again under new outbox rows; the old execution has lost them. One
-- that has done nothing more since it was started five times is tried after `pause` only: it heals by itself when the
-- cause is gone, and `stuck` has told somebody until then. What waits for an approval or its time is left alone.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.requeue_stuck_jobs(interval);
CREATE FUNCTION platform.requeue_stuck_jobs(silence interval, pause interval)
RETURNS TABLE (job_id uuid, kind text, attempts integer, stuck boolean, reason text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH silent AS (
        SELECT j.id, j.status, platform.done_by(j.id) AS done FROM platform.jobs j
        WHERE j.status IN ('queued', 'running') AND j.kind <> 'retention'
            AND j.heartbeat_at < clock_timestamp() - CASE WHEN j.stalls >= 5 THEN pause ELSE silence END
            AND NOT EXISTS (SELECT FROM platform.privacy_queue q WHERE q.job_id = j.id AND q.parked)
        FOR UPDATE OF j SKIP LOCKED
    ), again AS (
        UPDATE platform.jobs j SET status = 'queued', execution_id = NULL, heartbeat_at = clock_timestamp(),
            stalls = CASE WHEN s.done > j.done_before THEN 0 ELSE j.stalls + 1 END,
            done_before = greatest(s.done, j.done_before),
            last_error = CASE s.status WHEN 'running' THEN 'no_heartbeat' ELSE 'not_started' END
        FROM silent s WHERE s.id = j.id
        RETURNING j.*
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'workflow', CASE a.kind WHEN 'export' THEN 'gdpr_export' ELSE 'gdpr_erasure' END,
               a.id, replace(gen_random_uuid()::text, '-', '')
        FROM again a
    )
    SELECT a.id, a.kind, a.attempts, a.stalls >= 5, a.last_error FROM again a
$$;

-- Erasures that failed with the account frozen start anew after `pause`; what they failed of is remembered.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.requeue_failed_deletions(interval);
CREATE FUNCTION platform.requeue_failed_deletions(pause interval)
RETURNS TABLE (job_id uuid, kind text, attempts integer, stuck boolean, reason text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH failed AS (
        SELECT j.id, d.error, platform.done_by(j.id) AS done
        FROM platform.jobs j JOIN platform.deletions d ON d.job_id = j.id
        WHERE j.status = 'failed' AND d.frozen_at IS NOT NULL AND j.finished_at < clock_timestamp() - pause
            AND NOT EXISTS (SELECT FROM platform.deletions o
                            WHERE o.finished_at IS NULL AND o.tenant_id IS NOT DISTINCT FROM d.tenant_id
                                AND coalesce(o.subject_id, o.tenant_id) = coalesce(d.subject_id, d.tenant_id))
        FOR UPDATE OF j SKIP LOCKED
    ), again AS (
        UPDATE platform.jobs j SET status = 'queued', execution_id = NULL, finished_at = NULL,
            heartbeat_at = clock_timestamp(), last_error = f.error,
            stalls = CASE WHEN f.done > j.done_before THEN 0 ELSE j.stalls + 1 END,
            done_before = greatest(f.done, j.done_before)
        FROM failed f WHERE f.id = j.id
        RETURNING j.*
    ), opened AS (
        UPDATE platform.deletions SET finished_at = NULL, error = NULL WHERE deletions.job_id IN (SELECT a.id FROM again a)
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'workflow', 'gdpr_erasure', a.id, replace(gen_random_uuid()::text, '-', '')
        FROM again a
    )
    SELECT a.id, a.kind, a.attempts, a.stalls >= 5, a.last_error FROM again a
$$;

CREATE FUNCTION platform.export_privacy_notices() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT n.id, n.job_id, n.kind, platform.utc(n.due_at) AS due_at, n.account_id,
               platform.utc(n.created_at) AS created_at
        FROM platform.privacy_notices n WHERE n.account_id = platform.export_subject() ORDER BY n.created_at, n.id) r
$$;

SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.export_exports() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT e.id, e.requested_by, e.subject_account_id, e.organization_id, e.scope, e.format, e.status,
               platform.utc(e.requested_at) AS requested_at, platform.utc(e.due_at) AS due_at,
               platform.utc(e.completed_at) AS completed_at, platform.utc(e.expires_at) AS expires_at, e.size_bytes,
               e.sha256, e.error, platform.utc(e.mailed_at) AS mailed_at, e.channel,
               platform.utc(e.received_at) AS received_at, own.note, platform.utc(e.extended_at) AS extended_at,
               own.extension_reason
        FROM platform.exports e
        LEFT JOIN platform.exports own -- what was written about another is not hers
            ON own.id = e.id AND own.subject_account_id = platform.export_subject()
        WHERE platform.export_subject() IN (e.subject_account_id, e.requested_by)
        ORDER BY e.requested_at, e.id) r
$$;
SET LOCAL ROLE context_owner;

ALTER VIEW platform.privacy_queue OWNER TO context_definer;
ALTER FUNCTION platform.done_by(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.privacy_item(platform.privacy_queue) OWNER TO context_definer;
ALTER FUNCTION platform.privacy_concerns() OWNER TO context_definer;
ALTER FUNCTION platform.privacy_requests(text, text, boolean, timestamptz, uuid, integer) OWNER TO context_definer;
ALTER FUNCTION platform.privacy_request(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.receive_export(uuid, uuid, timestamptz, text) OWNER TO context_definer;
ALTER FUNCTION platform.receive_erasure(uuid, uuid, timestamptz, text, interval) OWNER TO context_definer;
ALTER FUNCTION platform.extend_request(uuid, integer, text) OWNER TO context_definer;
ALTER FUNCTION platform.remind_of_deadlines(boolean) OWNER TO context_definer;
ALTER FUNCTION platform.privacy_notice(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.requeue_stuck_jobs(interval, interval) OWNER TO context_definer;
ALTER FUNCTION platform.requeue_failed_deletions(interval) OWNER TO context_definer;
ALTER FUNCTION platform.export_privacy_notices() OWNER TO context_definer;
GRANT SELECT (tenant_id, name) ON app.organizations TO audit_fn;
GRANT EXECUTE ON FUNCTION platform.months_after(timestamptz, integer) TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.privacy_requests(text, text, boolean, timestamptz, uuid, integer),
    platform.privacy_request(uuid), platform.receive_export(uuid, uuid, timestamptz, text),
    platform.receive_erasure(uuid, uuid, timestamptz, text, interval),
    platform.extend_request(uuid, integer, text) TO audit_fn;
GRANT EXECUTE ON FUNCTION platform.remind_of_deadlines(boolean),
    platform.requeue_stuck_jobs(interval, interval), platform.requeue_failed_deletions(interval) TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.privacy_notice(uuid) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.export_privacy_notices() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
