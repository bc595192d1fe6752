-- A person's copy holds her requests for erasure as well.

CREATE FUNCTION platform.export_deletions() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT d.job_id, d.subject_id, d.scope, d.reason, d.received_at, d.execute_after, d.due_at, d.started_at,
               d.frozen_at, d.completed_at, d.finished_at, d.error
        FROM platform.deletions d WHERE d.subject_id = platform.export_subject() ORDER BY d.received_at, d.job_id) r
$$;

ALTER FUNCTION platform.export_deletions() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.export_deletions() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
