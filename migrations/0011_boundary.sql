-- Idempotency-Key: what a POST answered, kept beside the change and in its transaction, for a day.

-- `scope`: SHA-256 of the credential, method, path and key; `fingerprint`: of what was asked. The key itself is not kept.
CREATE TABLE app.idempotent_answers (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    scope bytea NOT NULL,
    fingerprint bytea NOT NULL,
    status integer NOT NULL CHECK (status BETWEEN 200 AND 299),
    headers jsonb NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, scope),
    CONSTRAINT idempotent_answers_of_member FOREIGN KEY (tenant_id, user_id) REFERENCES app.members (tenant_id, user_id)
        ON DELETE CASCADE
);
CREATE INDEX idempotent_answers_by_age ON app.idempotent_answers (created_at);
ALTER TABLE app.idempotent_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.idempotent_answers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON app.idempotent_answers
    USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
CREATE POLICY definer ON app.idempotent_answers TO context_definer USING (true) WITH CHECK (true);
CREATE POLICY erased_as_a_whole ON app.idempotent_answers AS RESTRICTIVE FOR DELETE TO deletions_jobs_fn
    USING ((SELECT platform.erases_organization()));
GRANT SELECT, INSERT, UPDATE, DELETE ON app.idempotent_answers TO context_definer;
GRANT SELECT (tenant_id, user_id, scope), DELETE ON app.idempotent_answers TO deletions_jobs_fn;
ALTER TABLE app.idempotent_answers ALTER COLUMN headers SET STATISTICS 0;
ALTER TABLE app.idempotent_answers ALTER COLUMN body SET STATISTICS 0;

-- What the sealed principal was answered for this scope within a day, as JSON text: fingerprint, status, headers, body;
-- {"running": true} while another transaction works on it; NULL when there is nothing, and then the scope is this
-- transaction's to its end. The lock comes in a statement of its own: what ended before it is seen after it.
CREATE FUNCTION app.recall_answer(wanted bytea) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    person uuid := app.principal_id();
    lock bytea := sha256(uuid_send(tenant) || uuid_send(person) || wanted);
BEGIN
    IF NOT pg_try_advisory_xact_lock(('x' || left(encode(lock, 'hex'), 16))::bit(64)::bigint) THEN
        RETURN '{"running": true}';
    END IF;
    RETURN (SELECT json_build_object('fingerprint', encode(a.fingerprint, 'hex'), 'status', a.status,
                                     'headers', a.headers, 'body', a.body)::text
            FROM app.idempotent_answers a
            WHERE a.tenant_id = tenant AND a.user_id = person AND a.scope = wanted
                AND a.created_at > clock_timestamp() - interval '24 hours');
END
$$;

-- Keep what the sealed principal is being answered. A row that is still there is over a day old.
CREATE FUNCTION app.keep_answer(kept_scope bytea, kept_fingerprint bytea, answered integer, kept_headers jsonb,
                                kept_body text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO app.idempotent_answers AS a (tenant_id, user_id, scope, fingerprint, status, headers, body)
    VALUES (app.tenant_id(), app.principal_id(), kept_scope, kept_fingerprint, answered, kept_headers, kept_body)
    ON CONFLICT (tenant_id, user_id, scope) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
        headers = excluded.headers, body = excluded.body, created_at = excluded.created_at
$$;
ALTER FUNCTION app.recall_answer(bytea) OWNER TO context_definer;
ALTER FUNCTION app.keep_answer(bytea, bytea, integer, jsonb, text) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.recall_answer(bytea), app.keep_answer(bytea, bytea, integer, jsonb, text)
    TO auth_fn, organizations_fn, projects_fn, exports_fn, deletions_fn, audit_fn;

-- A message carries the trace of the request that wrote it (W3C Trace Context) into the job or the mail.
SET LOCAL ROLE context_owner;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.outbox ADD COLUMN traceparent text CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');
GRANT INSERT (traceparent) ON platform.outbox TO auth_fn, organizations_fn, exports_fn, deletions_fn;
SET LOCAL ROLE context_definer;

-- As platform.outbox_lease, with the trace: up to `most` unsent rows, leased for a minute.
CREATE FUNCTION platform.lease_messages(most integer)
RETURNS TABLE (id uuid, kind text, name text, reference uuid, task_name text, traceparent text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.id, l.kind, l.name, l.reference, l.task_name, o.traceparent
    FROM platform.outbox_lease(most) l JOIN platform.outbox o ON o.id = l.id
$$;
GRANT EXECUTE ON FUNCTION platform.lease_messages(integer) TO retention_fn;
REVOKE EXECUTE ON FUNCTION platform.lease_messages(integer) FROM PUBLIC;

-- What erasure does grows by this table (retention follows in 0013): each function keeps what it did, under a new name.
-- squawk-ignore renaming-object
ALTER FUNCTION app.subject_counts(uuid, boolean) RENAME TO subject_counts_without_answers;
CREATE FUNCTION app.subject_counts(person uuid, whole boolean)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.table_name, c.action, c.row_count FROM app.subject_counts_without_answers(person, whole) c
    UNION ALL
    SELECT 'app.idempotent_answers', 'delete', count(*)
    FROM app.idempotent_answers a WHERE a.tenant_id = app.tenant_id() AND (whole OR a.user_id = person)
$$;

-- Hers, and what others were answered about her address: a copy that a day makes useless anyway.
-- squawk-ignore renaming-object
ALTER FUNCTION platform.leave_organization() RENAME TO leave_without_answers;
CREATE FUNCTION platform.leave_organization() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    address text := (SELECT lower(d.mail_to) FROM platform.deletions d WHERE d.job_id = app.principal_id());
    erased bigint;
BEGIN
    DELETE FROM app.idempotent_answers a
    WHERE a.tenant_id = app.tenant_id()
        AND (a.user_id = platform.erased_subject() OR strpos(lower(a.body), address) > 0);
    GET DIAGNOSTICS erased = ROW_COUNT;
    PERFORM platform.count_erased('app.idempotent_answers', 'delete', erased);
    RETURN platform.leave_without_answers();
END
$$;

GRANT EXECUTE ON FUNCTION platform.leave_organization() TO deletions_jobs_fn;
REVOKE EXECUTE ON FUNCTION platform.leave_without_answers() FROM deletions_jobs_fn;
-- Functions that the definer makes are open to PUBLIC by default.
REVOKE EXECUTE ON FUNCTION app.subject_counts(uuid, boolean), platform.leave_organization() FROM PUBLIC;
SET LOCAL ROLE context_owner;
