-- Exports: a person's request for a copy of her data, its parts, and what the workflow's steps may read and write.

CREATE TABLE platform.exports (
    id uuid PRIMARY KEY REFERENCES platform.jobs ON DELETE CASCADE,
    requested_by uuid NOT NULL,
    subject_account_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    scope text NOT NULL CHECK (scope IN ('me', 'user', 'organization')),
    format text NOT NULL CHECK (format IN ('json', 'csv')),
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'ready', 'failed', 'expired', 'cancelled')),
    progress_done integer NOT NULL DEFAULT 0,
    progress_total integer NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now() + interval '1 month', -- Art. 12(3): a calendar month
    completed_at timestamptz,
    expires_at timestamptz,
    object_name text,
    size_bytes bigint,
    sha256 text,
    error text,
    mail_claimed_until timestamptz,
    mailed_at timestamptz,
    removed_at timestamptz -- when the stored objects of a cancelled, failed or expired export were deleted
);
CREATE UNIQUE INDEX exports_one_running ON platform.exports (subject_account_id) WHERE status IN ('queued', 'running');
CREATE INDEX exports_by_requester ON platform.exports (requested_by, requested_at DESC, id DESC);
CREATE INDEX exports_by_subject ON platform.exports (subject_account_id, requested_at DESC, id DESC);
CREATE INDEX exports_with_files ON platform.exports (expires_at) WHERE removed_at IS NULL;

-- One part is one COPY: a table, an organization (none for the platform's own data), a range of keys.
CREATE TABLE platform.export_parts (
    job_id uuid NOT NULL REFERENCES platform.exports ON DELETE CASCADE,
    name text NOT NULL,
    table_name text NOT NULL,
    tenant_id uuid,
    range_from text,
    range_to text,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done')),
    row_count bigint,
    bytes bigint,
    object_name text,
    sha256 text,
    PRIMARY KEY (job_id, name)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['exports', 'export_parts'] LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON platform.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON platform.%I TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY person ON platform.exports FOR SELECT TO exports_fn
    USING (requested_by = (SELECT app.principal_id()) OR subject_account_id = (SELECT app.principal_id()));
GRANT SELECT ON platform.exports TO exports_fn;
CREATE POLICY exports ON platform.outbox FOR INSERT TO exports_fn
    WITH CHECK (kind = 'workflow' AND name = 'gdpr_export'
                AND EXISTS (SELECT FROM platform.exports e WHERE e.id = reference)); -- one that the person may see

-- What a copy holds of an organization, column by column as the register says; a test compares both.
GRANT SELECT (tenant_id, user_id, role, created_at, updated_at) ON app.members TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, name, description, status, created_by, created_at, updated_at)
    ON app.projects TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, project_id, title, description, status, priority, assignee_id, due_at, created_by,
              created_at, updated_at) ON app.tasks TO exports_jobs_fn;
GRANT SELECT (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id, outcome, request_id, data,
              personal) ON app.audit_events TO exports_jobs_fn;

ALTER TABLE identity.registrations ALTER COLUMN consents SET STATISTICS 0;
ALTER TABLE platform.context_keys ALTER COLUMN inner_pad SET STATISTICS 0;
ALTER TABLE platform.context_keys ALTER COLUMN outer_pad SET STATISTICS 0;
ALTER TABLE platform.seal_key ALTER COLUMN inner_pad SET STATISTICS 0;
ALTER TABLE platform.seal_key ALTER COLUMN outer_pad SET STATISTICS 0;
CREATE INDEX projects_by_author ON app.projects (tenant_id, created_by);
CREATE INDEX tasks_by_author ON app.tasks (tenant_id, created_by);

-- A time as API.md writes it.
CREATE FUNCTION platform.utc(moment timestamptz) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
GRANT EXECUTE ON FUNCTION platform.utc(timestamptz) TO exports_fn, exports_jobs_fn, context_definer;

CREATE FUNCTION platform.export_json(e platform.exports) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', e.id, 'scope', e.scope, 'format', e.format, 'subject_user_id', e.subject_account_id,
    'status', CASE WHEN e.status = 'ready' AND e.expires_at <= now() THEN 'expired' ELSE e.status END,
    'progress', json_build_object(
        'done', e.progress_done, 'total', e.progress_total,
        'percent', CASE WHEN e.progress_total = 0 THEN 0 ELSE 100 * e.progress_done / e.progress_total END),
    'requested_at', platform.utc(e.requested_at),
    'due_at', platform.utc(e.due_at),
    'completed_at', platform.utc(e.completed_at),
    'expires_at', platform.utc(e.expires_at),
    'size_bytes', e.size_bytes, 'sha256', e.sha256, 'error', e.error);
GRANT EXECUTE ON FUNCTION platform.export_json(platform.exports) TO exports_fn;

-- The sealed person asks for her own data: request, job, and the organizations that the job may enter.
CREATE FUNCTION platform.request_export(new_id uuid, wanted_format text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := app.principal_id();
BEGIN
    IF person IS NULL OR app.sealed(1) <> 'u' THEN
        RAISE EXCEPTION 'only a person asks for an export' USING ERRCODE = '42501';
    END IF;
    INSERT INTO platform.jobs (id, kind) VALUES (new_id, 'export');
    INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format)
    VALUES (new_id, person, person, app.tenant_id(), 'me', wanted_format);
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT new_id, m.tenant_id FROM app.members m WHERE m.user_id = person;
END
$$;

-- The sealed person ends an export of hers: a waiting or running one is cancelled, a ready one expires now.
-- Answers what it became, 'over' when it had ended before, NULL when there is none.
CREATE FUNCTION platform.cancel_export(export uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := app.principal_id();
    found platform.exports;
    outcome text;
BEGIN
    -- The job first, as every step does: two orders would deadlock.
    PERFORM FROM platform.jobs j WHERE j.id = export FOR UPDATE;
    SELECT * INTO found FROM platform.exports e
    WHERE e.id = export AND person IN (e.requested_by, e.subject_account_id) AND app.sealed(1) = 'u' FOR UPDATE;
    IF found.id IS NULL THEN
        RETURN NULL;
    END IF;
    outcome := CASE WHEN found.status IN ('queued', 'running') THEN 'cancelled'
                    WHEN found.status = 'ready' THEN 'expired' ELSE 'over' END;
    IF outcome <> 'over' THEN
        UPDATE platform.exports SET status = outcome, expires_at = least(expires_at, clock_timestamp())
        WHERE id = export;
        UPDATE platform.jobs SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = export AND status IN ('queued', 'running');
    END IF;
    RETURN outcome;
END
$$;

-- First step of a workflow. 'export': the execution has the job; 'remove': the export is over and its objects are to
-- be deleted; NULL: nothing to do here.
CREATE FUNCTION platform.claim_export(export uuid, execution text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF platform.claim_job(export, 'export', execution) THEN
        UPDATE platform.exports SET status = 'running' WHERE id = export AND status = 'queued';
        RETURN 'export';
    END IF;
    PERFORM FROM platform.exports e
    WHERE e.id = export AND e.status IN ('cancelled', 'expired', 'failed') AND e.removed_at IS NULL
        AND app.may_handle(export);
    RETURN CASE WHEN FOUND THEN 'remove' END;
END
$$;

-- The export whose running job the seal names.
CREATE FUNCTION platform.sealed_export() RETURNS SETOF platform.exports
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM platform.exports e WHERE e.id = app.principal_id() AND app.sealed(1) = 's'
$$;

CREATE FUNCTION platform.export_subject() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.subject_account_id FROM platform.sealed_export() e
$$;

-- What the package says about the request, as JSON text.
CREATE FUNCTION platform.export_request() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'id', e.id, 'scope', e.scope, 'format', e.format, 'subject_user_id', e.subject_account_id,
        'requested_by', e.requested_by, 'organization_id', e.organization_id, 'object_name', e.object_name,
        'requested_at', platform.utc(e.requested_at),
        'due_at', platform.utc(e.due_at),
        'organizations', (
            SELECT coalesce(json_agg(json_build_object('id', o.tenant_id, 'slug', o.slug, 'name', o.name)
                                     ORDER BY o.tenant_id), '[]')
            FROM platform.job_tenants t JOIN app.organizations o ON o.tenant_id = t.tenant_id
            WHERE t.job_id = e.id))::text
    FROM platform.sealed_export() e
$$;

-- The plan, once: parts are [{name, table_name, tenant_id, range_from, range_to}]. The package is one more step.
CREATE FUNCTION platform.plan_export(parts jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    export platform.exports;
BEGIN
    SELECT e.* INTO STRICT export FROM platform.exports e
    WHERE e.id IN (SELECT id FROM platform.sealed_export()) FOR UPDATE;
    IF export.progress_total = 0 THEN
        INSERT INTO platform.export_parts (job_id, name, table_name, tenant_id, range_from, range_to)
        SELECT export.id, p.name, p.table_name, p.tenant_id, p.range_from, p.range_to
        FROM jsonb_to_recordset(parts) AS p (name text, table_name text, tenant_id uuid, range_from text,
                                             range_to text);
        UPDATE platform.exports e SET progress_total = jsonb_array_length(parts) + 1 WHERE e.id = export.id;
    END IF;
END
$$;

CREATE FUNCTION platform.planned_parts()
RETURNS TABLE (name text, table_name text, tenant_id uuid, range_from text, range_to text, status text,
               row_count bigint, bytes bigint, object_name text, sha256 text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.name, p.table_name, p.tenant_id, p.range_from, p.range_to, p.status, p.row_count, p.bytes, p.object_name,
           p.sha256
    FROM platform.export_parts p JOIN platform.sealed_export() e ON e.id = p.job_id ORDER BY p.name
$$;

-- A part is uploaded under a name of its own; the first to say so wins, and the loser deletes what it made.
CREATE FUNCTION platform.finish_part(execution text, part text, object text, copied bigint, size bigint, digest text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job uuid := (SELECT e.id FROM platform.sealed_export() e);
BEGIN
    IF NOT platform.job_alive(job, execution) OR NOT starts_with(object, 'exports/' || job || '/') THEN
        RETURN false;
    END IF;
    UPDATE platform.export_parts p
    SET status = 'done', object_name = object, row_count = copied, bytes = size, sha256 = digest
    WHERE p.job_id = job AND p.name = part AND p.status = 'pending';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE platform.exports e SET progress_done = progress_done + 1 WHERE e.id = job;
    RETURN true;
END
$$;

CREATE FUNCTION platform.finish_package(execution text, object text, size bigint, digest text, lifetime interval)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job uuid := (SELECT e.id FROM platform.sealed_export() e);
BEGIN
    IF NOT platform.job_alive(job, execution) OR NOT starts_with(object, 'exports/' || job || '/') THEN
        RETURN false;
    END IF;
    UPDATE platform.exports e
    SET status = 'ready', progress_done = progress_total, completed_at = clock_timestamp(),
        expires_at = clock_timestamp() + lifetime, object_name = object, size_bytes = size, sha256 = digest
    WHERE e.id = job AND e.status = 'running' AND e.object_name IS NULL;
    RETURN FOUND;
END
$$;

-- Claim the mail of a ready export: `state` is claimed, busy (another is sending it), done, or gone with its reader.
CREATE FUNCTION platform.claim_export_mail() RETURNS TABLE (state text, email text, display_name text, object_name text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    export platform.exports;
BEGIN
    SELECT e.* INTO export FROM platform.exports e WHERE e.id IN (SELECT id FROM platform.sealed_export()) FOR UPDATE;
    IF export.mailed_at IS NOT NULL OR export.status IS DISTINCT FROM 'ready' THEN
        RETURN QUERY SELECT 'done', NULL::text, NULL::text, NULL::text;
    ELSIF export.mail_claimed_until > clock_timestamp() THEN
        RETURN QUERY SELECT 'busy', NULL::text, NULL::text, NULL::text;
    ELSE
        UPDATE platform.exports e SET mail_claimed_until = clock_timestamp() + interval '30 seconds'
        WHERE e.id = export.id;
        RETURN QUERY SELECT 'claimed', a.email, a.display_name, export.object_name
        FROM identity.accounts a WHERE a.id = export.requested_by;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'gone', NULL::text, NULL::text, NULL::text;
        END IF;
    END IF;
END
$$;

CREATE FUNCTION platform.release_export_mail() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.exports SET mail_claimed_until = NULL
    WHERE id IN (SELECT e.id FROM platform.sealed_export() e) AND mailed_at IS NULL
$$;

CREATE FUNCTION platform.export_mailed() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.exports SET mailed_at = clock_timestamp()
    WHERE id IN (SELECT e.id FROM platform.sealed_export() e) AND mailed_at IS NULL
$$;

-- The workflow gave up: an export that is not ready has failed, one that is ready stays so.
CREATE FUNCTION platform.fail_export(export uuid, execution text, reason text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT platform.job_alive(export, execution) THEN
        RETURN NULL;
    END IF;
    UPDATE platform.exports SET status = 'failed', error = reason WHERE id = export AND status = 'running';
    IF FOUND THEN
        PERFORM platform.finish_job(export, execution, 'failed');
        RETURN 'failed';
    END IF;
    PERFORM platform.finish_job(export, execution, 'done');
    RETURN 'ready';
END
$$;

-- The stored objects of an export that is over are gone.
CREATE FUNCTION platform.export_removed(export uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH over AS (
        UPDATE platform.exports SET removed_at = clock_timestamp(), object_name = NULL
        WHERE id = export AND status IN ('cancelled', 'expired', 'failed') AND removed_at IS NULL
            AND app.may_handle(export)
        RETURNING id
    )
    DELETE FROM platform.export_parts WHERE job_id IN (SELECT id FROM over)
$$;

-- For retention: exports whose files are to be deleted, by the prefix of their objects' names.
CREATE FUNCTION platform.expired_exports() RETURNS TABLE (job_id uuid, object_prefix text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.id, 'exports/' || e.id || '/' FROM platform.exports e
    WHERE e.removed_at IS NULL
        AND ((e.status = 'ready' AND e.expires_at <= clock_timestamp())
             OR (e.status IN ('cancelled', 'expired', 'failed')
                 AND e.requested_at < clock_timestamp() - interval '1 day'))
    ORDER BY e.requested_at LIMIT 1000
$$;

CREATE FUNCTION platform.mark_export_expired(job uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.exports SET status = 'expired'
    WHERE id = job AND status = 'ready' AND expires_at <= clock_timestamp();
    SELECT platform.export_removed(job)
$$;

-- The platform's own data about the subject of the sealed export, one function per table of the register.
CREATE FUNCTION platform.export_accounts() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT a.id, a.email, a.display_name, a.status, platform.utc(a.email_verified_at) AS email_verified_at,
               platform.utc(a.created_at) AS created_at, platform.utc(a.updated_at) AS updated_at
        FROM identity.accounts a WHERE a.id = platform.export_subject()) r
$$;

CREATE FUNCTION platform.export_registrations() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT p.id, p.email, p.display_name, p.organization_name, p.consents,
               platform.utc(p.created_at) AS created_at, platform.utc(p.expires_at) AS expires_at
        FROM identity.registrations p JOIN identity.accounts a ON a.email = p.email
        WHERE a.id = platform.export_subject() ORDER BY p.created_at, p.id) r
$$;

CREATE FUNCTION platform.export_login_sessions() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT s.id, s.account_id, s.tenant_id, platform.utc(s.created_at) AS created_at,
               platform.utc(s.last_used_at) AS last_used_at, platform.utc(s.auth_time) AS auth_time, s.amr,
               s.ip, s.user_agent,
               platform.utc(s.expires_at) AS expires_at, platform.utc(s.revoked_at) AS revoked_at
        FROM identity.login_sessions s WHERE s.account_id = platform.export_subject() ORDER BY s.created_at, s.id) r
$$;

CREATE FUNCTION platform.export_exports() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT e.id, e.requested_by, e.subject_account_id, e.organization_id, e.scope, e.format, e.status,
               platform.utc(e.requested_at) AS requested_at, platform.utc(e.due_at) AS due_at,
               platform.utc(e.completed_at) AS completed_at, platform.utc(e.expires_at) AS expires_at, e.size_bytes,
               e.sha256, e.error, platform.utc(e.mailed_at) AS mailed_at
        FROM platform.exports e WHERE platform.export_subject() IN (e.subject_account_id, e.requested_by)
        ORDER BY e.requested_at, e.id) r
$$;

CREATE FUNCTION platform.export_outbox() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT o.id, o.kind, o.name, o.reference, platform.utc(o.created_at) AS created_at,
               platform.utc(o.sent_at) AS sent_at, platform.utc(o.delivered_at) AS delivered_at
        FROM platform.outbox o
        WHERE o.reference = platform.export_subject()
            OR o.reference IN (SELECT e.id FROM platform.exports e
                               WHERE platform.export_subject() IN (e.subject_account_id, e.requested_by))
            OR o.reference IN (SELECT p.id FROM identity.registrations p JOIN identity.accounts a ON a.email = p.email
                               WHERE a.id = platform.export_subject())
        ORDER BY o.created_at, o.id) r
$$;

ALTER FUNCTION platform.request_export(uuid, text) OWNER TO context_definer;
ALTER FUNCTION platform.cancel_export(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.claim_export(uuid, text) OWNER TO context_definer;
ALTER FUNCTION platform.sealed_export() OWNER TO context_definer;
ALTER FUNCTION platform.export_subject() OWNER TO context_definer;
ALTER FUNCTION platform.export_request() OWNER TO context_definer;
ALTER FUNCTION platform.plan_export(jsonb) OWNER TO context_definer;
ALTER FUNCTION platform.planned_parts() OWNER TO context_definer;
ALTER FUNCTION platform.finish_part(text, text, text, bigint, bigint, text) OWNER TO context_definer;
ALTER FUNCTION platform.finish_package(text, text, bigint, text, interval) OWNER TO context_definer;
ALTER FUNCTION platform.claim_export_mail() OWNER TO context_definer;
ALTER FUNCTION platform.release_export_mail() OWNER TO context_definer;
ALTER FUNCTION platform.export_mailed() OWNER TO context_definer;
ALTER FUNCTION platform.fail_export(uuid, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.export_removed(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.expired_exports() OWNER TO context_definer;
ALTER FUNCTION platform.mark_export_expired(uuid) OWNER TO context_definer;
ALTER FUNCTION platform.export_accounts() OWNER TO context_definer;
ALTER FUNCTION platform.export_registrations() OWNER TO context_definer;
ALTER FUNCTION platform.export_login_sessions() OWNER TO context_definer;
ALTER FUNCTION platform.export_exports() OWNER TO context_definer;
ALTER FUNCTION platform.export_outbox() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.request_export(uuid, text), platform.cancel_export(uuid) TO exports_fn;
GRANT EXECUTE ON FUNCTION platform.claim_export(uuid, text), platform.export_subject(), platform.export_request(),
    platform.plan_export(jsonb), platform.planned_parts(),
    platform.finish_part(text, text, text, bigint, bigint, text),
    platform.finish_package(text, text, bigint, text, interval), platform.claim_export_mail(),
    platform.release_export_mail(), platform.export_mailed(), platform.fail_export(uuid, text, text), platform.export_removed(uuid),
    platform.export_accounts(), platform.export_registrations(), platform.export_login_sessions(),
    platform.export_exports(), platform.export_outbox()
    TO exports_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.expired_exports(), platform.mark_export_expired(uuid) TO retention_fn;
SET LOCAL ROLE context_owner;
