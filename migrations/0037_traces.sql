-- Traces go on through the outbox, also where a definer function writes the row: the mail of a job, a job's children.

-- The trace that the transaction was told of (common/db.py), for a request whose trace is kept; no other text passes.
ALTER TABLE platform.outbox ALTER COLUMN traceparent SET DEFAULT substring(
    current_setting('context.traceparent', true) FROM '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
);

SET LOCAL ROLE context_definer;

-- How much waits in the outbox, and for how many seconds the oldest of it: what is due, and nothing that is for later.
CREATE FUNCTION platform.outbox_state(OUT waiting bigint, OUT age double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), coalesce(extract(epoch FROM now() - min(greatest(o.created_at, o.not_before))), 0)
    FROM platform.outbox o
    WHERE o.sent_at IS NULL AND o.not_before <= now()
$$;
REVOKE EXECUTE ON FUNCTION platform.outbox_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.outbox_state() TO retention_fn;

SET LOCAL ROLE context_owner;
