-- A person's copy holds her requests for erasure as well.

CREATE FUNCTION platform.export_deletions() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT d.job_id, d.subject_id, d.scope, d.reason, platform.utc(d.received_at) AS received_at,
               platform.utc(d.execute_after) AS execute_after, platform.utc(d.due_at) AS due_at,
               platform.utc(d.started_at) AS started_at, platform.utc(d.frozen_at) AS frozen_at,
               platform.utc(d.completed_at) AS completed_at, platform.utc(d.finished_at) AS finished_at, d.error
        FROM platform.deletions d WHERE d.subject_id = platform.export_subject() ORDER BY d.received_at, d.job_id) r
$$;

ALTER FUNCTION platform.export_deletions() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.export_deletions() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;
