-- Jobs and the outbox: nothing lost, nothing twice.

-- The row that a system token names. Exports, deletions and retention runs hang their own tables on its id.
CREATE TABLE platform.jobs (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('export', 'deletion', 'retention')),
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    execution_id text,
    attempts integer NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX jobs_open ON platform.jobs (heartbeat_at) WHERE status IN ('queued', 'running');

-- The organizations that a job may enter.
CREATE TABLE platform.job_tenants (
    job_id uuid NOT NULL REFERENCES platform.jobs ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    PRIMARY KEY (job_id, tenant_id)
);

-- What must be told to the outside after commit. `reference` is an id: of a job, a registration, an account.
CREATE TABLE platform.outbox (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('mail', 'workflow')),
    name text NOT NULL,
    reference uuid NOT NULL,
    task_name text NOT NULL,
    not_before timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz,
    sent_at timestamptz,
    claimed_until timestamptz,
    delivered_at timestamptz,
    CHECK (kind <> 'workflow' OR name ~ '^[a-z_]+$') -- a part of the URL that is called
);
CREATE INDEX outbox_unsent ON platform.outbox (not_before) WHERE sent_at IS NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['jobs', 'job_tenants', 'outbox'] LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON platform.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON platform.%I TO context_definer', name);
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA platform TO auth_fn, organizations_fn, projects_fn, exports_fn, exports_jobs_fn, deletions_fn,
    deletions_jobs_fn, audit_fn, retention_fn;
-- A function writes its own kind of message, about what its caller may speak of; exports and deletions follow.
CREATE POLICY mails ON platform.outbox FOR INSERT TO auth_fn
    WITH CHECK (kind = 'mail' AND ((SELECT app.is_nobody()) OR reference = (SELECT app.principal_id())));
GRANT INSERT (id, kind, name, reference, task_name, not_before) ON platform.outbox
    TO auth_fn, exports_fn, deletions_fn;

CREATE FUNCTION platform.outbox_sent(sent uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.outbox SET sent_at = clock_timestamp() WHERE id = sent AND sent_at IS NULL
$$;

-- Up to `most` unsent rows, leased for a minute: another drainer skips them.
CREATE FUNCTION platform.outbox_lease(most integer)
RETURNS TABLE (id uuid, kind text, name text, reference uuid, task_name text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.outbox o SET leased_until = clock_timestamp() + interval '1 minute'
    WHERE o.id IN (
        SELECT due.id FROM platform.outbox due
        WHERE due.sent_at IS NULL AND due.not_before <= clock_timestamp()
            AND (due.leased_until IS NULL OR due.leased_until < clock_timestamp())
            AND due.created_at < clock_timestamp() - interval '2 seconds'
        ORDER BY due.not_before LIMIT most FOR UPDATE SKIP LOCKED)
    RETURNING o.id, o.kind, o.name, o.reference, o.task_name
$$;

-- Claim a mail for sending: its purpose and reference; `state` is claimed, busy (another is sending it), done or unknown.
CREATE FUNCTION platform.mail_claim(mail uuid)
RETURNS TABLE (state text, name text, reference uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entry platform.outbox;
BEGIN
    SELECT * INTO entry FROM platform.outbox o WHERE o.id = mail AND o.kind = 'mail' AND app.is_nobody() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::text, NULL::uuid;
    ELSIF entry.delivered_at IS NOT NULL THEN
        RETURN QUERY SELECT 'done', NULL::text, NULL::uuid;
    ELSIF entry.claimed_until > clock_timestamp() THEN
        RETURN QUERY SELECT 'busy', NULL::text, NULL::uuid;
    ELSE
        UPDATE platform.outbox o SET claimed_until = clock_timestamp() + interval '30 seconds' WHERE o.id = mail;
        RETURN QUERY SELECT 'claimed', entry.name, entry.reference;
    END IF;
END
$$;

CREATE FUNCTION platform.mail_delivered(mail uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.outbox SET delivered_at = clock_timestamp() WHERE id = mail AND app.is_nobody()
$$;

-- The sending failed and nobody is at it any more: the next try need not wait for the claim to run out.
CREATE FUNCTION platform.mail_release(mail uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.outbox SET claimed_until = NULL WHERE id = mail AND delivered_at IS NULL AND app.is_nobody()
$$;

-- A system token is good while its job runs, in the organizations that the job names.
CREATE FUNCTION app.job_credential(tenant uuid, job uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF job IS NULL AND tenant IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM FROM platform.jobs j WHERE j.id = job AND j.status = 'running';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such running job' USING ERRCODE = 'CX401';
    END IF;
    IF tenant IS NOT NULL THEN
        PERFORM FROM platform.job_tenants t WHERE t.job_id = job AND t.tenant_id = tenant;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the job does not work for this organization' USING ERRCODE = 'CX401';
        END IF;
    END IF;
    RETURN '{}';
END
$$;

-- First step of a workflow: the execution takes the job, unless another execution has it or it is over.
CREATE FUNCTION platform.claim_job(job uuid, wanted_kind text, execution text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH claimed AS (
        UPDATE platform.jobs SET status = 'running', execution_id = execution, attempts = attempts + 1,
            heartbeat_at = clock_timestamp()
        WHERE id = job AND kind = wanted_kind AND (status = 'queued' OR (status = 'running' AND execution_id = execution))
            AND app.may_handle(job)
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM claimed)
$$;

-- Every later step carries the execution: false when it has lost the job.
CREATE FUNCTION platform.job_alive(job uuid, execution text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH alive AS (
        UPDATE platform.jobs SET heartbeat_at = clock_timestamp()
        WHERE id = job AND status = 'running' AND execution_id = execution AND app.may_handle(job)
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM alive)
$$;

CREATE FUNCTION platform.finish_job(job uuid, execution text, outcome text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH finished AS (
        UPDATE platform.jobs SET status = outcome, finished_at = clock_timestamp(), heartbeat_at = clock_timestamp()
        WHERE id = job AND execution_id = execution AND outcome IN ('done', 'failed')
            AND (status = 'running' OR status = outcome) AND app.may_handle(job)
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM finished)
$$;

-- Jobs without a heartbeat for `silence` are queued again under new outbox rows; the old execution has lost them.
CREATE FUNCTION platform.requeue_stuck_jobs(silence interval) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH stuck AS (
        UPDATE platform.jobs SET status = 'queued', execution_id = NULL, heartbeat_at = clock_timestamp()
        WHERE id IN (SELECT id FROM platform.jobs
                     WHERE status IN ('queued', 'running') AND kind <> 'retention'
                         AND heartbeat_at < clock_timestamp() - silence
                     FOR UPDATE SKIP LOCKED)
        RETURNING id, kind
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'workflow', CASE kind WHEN 'export' THEN 'gdpr_export' ELSE 'gdpr_erasure' END,
               id, replace(gen_random_uuid()::text, '-', '')
        FROM stuck
        RETURNING 1
    )
    SELECT count(*)::integer FROM sent
$$;

ALTER FUNCTION platform.outbox_sent(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.outbox_lease(integer) OWNER TO context_definer;
ALTER FUNCTION platform.mail_claim(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.mail_delivered(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.mail_release(uuid) OWNER TO context_definer;
ALTER FUNCTION app.job_credential(uuid, uuid) OWNER TO context_definer;
ALTER FUNCTION platform.claim_job(uuid, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.job_alive(uuid, text) OWNER TO context_definer;
ALTER FUNCTION platform.finish_job(uuid, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.requeue_stuck_jobs(interval) OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.outbox_sent(uuid) TO auth_fn, exports_fn, deletions_fn, retention_fn;
GRANT EXECUTE ON FUNCTION platform.outbox_lease(integer), platform.requeue_stuck_jobs(interval) TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.mail_claim(uuid), platform.mail_delivered(uuid), platform.mail_release(uuid)
    TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.claim_job(uuid, text, text), platform.job_alive(uuid, text),
    platform.finish_job(uuid, text, text) TO exports_jobs_fn, deletions_jobs_fn;
SET LOCAL ROLE context_owner;
