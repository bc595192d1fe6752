-- Sessions: long-running, watched by many, with events numbered without gaps; the events are kept by month.

CREATE TABLE app.sessions (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0), -- whoever appends holds this row: so numbers have no gaps
    last_event_at timestamptz,
    active_at timestamptz NOT NULL DEFAULT now(),
    closes_at timestamptz NOT NULL, -- closed from then on, whether or not somebody has written closed_at
    closed_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT sessions_of_a_project FOREIGN KEY (tenant_id, project_id)
        REFERENCES app.projects (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 70); -- an append changes no indexed column: with room on the page it touches no index (HOT)
CREATE INDEX sessions_newest ON app.sessions (tenant_id, created_at DESC, id DESC);
CREATE INDEX sessions_of_project_newest ON app.sessions (tenant_id, project_id, created_at DESC, id DESC);
CREATE INDEX sessions_open_newest ON app.sessions (tenant_id, created_at DESC, id DESC) WHERE closed_at IS NULL;
CREATE INDEX sessions_to_close ON app.sessions (closes_at) WHERE closed_at IS NULL;
CREATE INDEX sessions_by_author ON app.sessions (tenant_id, created_by);

-- Append-only. Within a session the times rise with the numbers: both are given while the session's row is held. A key
-- over partitions must contain their column; what keeps `seq` from being given twice is last_seq above.
CREATE TABLE app.session_events (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    type text NOT NULL CONSTRAINT session_events_typed CHECK (type ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$'),
    data json NOT NULL CONSTRAINT session_events_small CHECK (octet_length(CAST(data AS text)) <= 65536),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, session_id, seq, created_at),
    CONSTRAINT events_of_a_session FOREIGN KEY (tenant_id, session_id)
        REFERENCES app.sessions (tenant_id, id) ON DELETE CASCADE
) PARTITION BY RANGE (created_at);
CREATE INDEX session_events_by_author ON app.session_events (tenant_id, created_by);
CREATE INDEX session_events_by_age ON app.session_events USING brin (created_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'session_events'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON app.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        -- Nobody writes in another's name.
        EXECUTE format('CREATE POLICY author ON app.%I AS RESTRICTIVE FOR INSERT TO sessions_fn'
                       ' WITH CHECK (created_by = (SELECT app.principal_id()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON app.%I TO context_definer', name);
    END LOOP;
END
$$;
ALTER TABLE app.sessions ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE app.session_events ALTER COLUMN type SET STATISTICS 0;
ALTER TABLE app.session_events ALTER COLUMN data SET STATISTICS 0;

-- `idle` after a sixth of the time after which it closes; `closed` when that time is over, before anybody has noted it.
CREATE FUNCTION app.session_json(s app.sessions) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', s.id, 'project_id', s.project_id, 'title', s.title,
    'status', CASE WHEN s.closed_at IS NOT NULL OR s.closes_at <= now() THEN 'closed'
                   WHEN now() >= s.active_at + (s.closes_at - s.active_at) / 6 THEN 'idle' ELSE 'active' END,
    'created_by', s.created_by,
    'created_at', to_char(s.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'last_event_at', to_char(s.last_event_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'closed_at', to_char(coalesce(s.closed_at, CASE WHEN s.closes_at <= now() THEN s.closes_at END)
                         AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', s.version);

-- An event as it is streamed: the data in the very text that was stored, in one line: in JSON a line end is but a space.
-- A type needs no escaping.
CREATE FUNCTION app.session_event_json(e app.session_events) RETURNS text
LANGUAGE sql STABLE
RETURN concat('{"seq":', e.seq, ',"type":"', e.type, '","data":', translate(e.data::text, E'\r\n', '  '), '}');

-- The sessions' process reads, appends, and closes; events are never changed, and who and when is not its to say.
GRANT USAGE ON SCHEMA app, identity, platform TO sessions_fn;
GRANT SELECT, DELETE, INSERT (tenant_id, project_id, title, created_by, closes_at),
    UPDATE (title, last_seq, last_event_at, active_at, closes_at, closed_at, version) ON app.sessions TO sessions_fn;
GRANT SELECT, INSERT (tenant_id, session_id, seq, type, data, created_by) ON app.session_events TO sessions_fn;
GRANT SELECT (tenant_id, id) ON app.projects TO sessions_fn;
GRANT EXECUTE ON FUNCTION app.session_json(app.sessions), app.session_event_json(app.session_events) TO sessions_fn;
GRANT EXECUTE ON FUNCTION platform.utc(timestamptz) TO sessions_fn;
GRANT SELECT (tenant_id, id, project_id, title, created_by, created_at, last_seq, last_event_at, active_at, closes_at,
              closed_at) ON app.sessions TO exports_jobs_fn;
GRANT SELECT (tenant_id, session_id, seq, type, data, created_by, created_at) ON app.session_events TO exports_jobs_fn;

-- As before, but from the oldest partition that the period still covers: an organization that moves in brings rows of
-- these months along, and a database that is younger than the period has none of them yet.
CREATE OR REPLACE FUNCTION platform.make_partitions() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known record;
    start timestamptz;
    step interval;
    place text;
    hidden name;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7305210030);
    PERFORM set_config('lock_timeout', '2s', true);
    FOR known IN SELECT g.name, g.rules, g.rules ->> 'partitions' AS unit FROM platform.register g
                 WHERE g.rules ->> 'partitions' IS NOT NULL
    LOOP
        step := ('1 ' || known.unit)::interval;
        FOR start IN SELECT generate_series(platform.over_before(known.rules), now() + CASE known.unit
                         WHEN 'day' THEN interval '30 days' ELSE interval '3 months' END, step, 'UTC')
        LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM platform.partitions_of(known.name) p
                WHERE p.first_moment < date_add(start, step, 'UTC') AND p.last_moment > start);
            place := format('%I.%I', known.rules ->> 'schema', concat_ws('_', known.rules ->> 'relation', to_char(
                start AT TIME ZONE 'UTC', CASE known.unit WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END)));
            EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY'
                           ' EXCLUDING STATISTICS)', place, known.name);
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', place);
            EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', place);
            FOR hidden IN SELECT a.attname FROM pg_attribute a
                          WHERE a.attrelid = to_regclass(known.name) AND a.attnum > 0 AND a.attstattarget = 0
            LOOP
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', place, hidden);
            END LOOP;
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', known.name, place, start,
                           date_add(start, step, 'UTC'));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.authorize(text), app.tenant_id(), app.principal_id(), app.append_audit(jsonb),
    app.recall_answer(bytea), app.keep_answer(bytea, bytea, integer, jsonb, text),
    app.record_refusal(uuid, uuid, uuid, text, text, text, text, jsonb), identity.federated_account(text, text),
    app.consented(text) TO sessions_fn;

-- As before, from JSON text: a column of type json keeps it as it was written. Rows whose partition is over stay out.
-- The operator's command comes with this migration: nobody else calls it.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.import_rows(text, text[], jsonb, boolean);
CREATE FUNCTION platform.import_rows(relation text, columns text[], rows json, replaces boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    organization uuid := app.tenant_id();
    listed text := (SELECT string_agg(format('%I', name), ', ') FROM unnest(columns) name);
    -- JSON's null is a value of such a column, and of a row in JSON none: where none may be, it is the value.
    picked text := (
        SELECT string_agg(CASE WHEN a.attnotnull AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype)
                               THEN format('coalesce(r.%I, ''null'')', name) ELSE format('r.%I', name) END, ', ' ORDER BY place)
        FROM unnest(columns) WITH ORDINALITY AS u (name, place) JOIN pg_attribute a
            ON a.attrelid = format('app.%I', relation)::regclass AND a.attname = name);
    young text := coalesce((
        SELECT format(' WHERE r.%I >= %L', g.rules ->> 'after', platform.over_before(g.rules)) FROM platform.register g
        WHERE g.name = 'app.' || relation AND g.rules ->> 'partitions' IS NOT NULL), '');
    otherwise text := '';
    written bigint;
BEGIN
    IF organization IS NULL OR app.sealed(1) <> 's' OR app.sealed(3) IS NOT NULL THEN
        RAISE EXCEPTION 'no import is open' USING ERRCODE = '42501';
    END IF;
    IF replaces THEN
        SELECT format(' ON CONFLICT (%s) DO UPDATE SET %s', string_agg(format('%I', a.attname), ', '),
                      (SELECT string_agg(format('%1$I = excluded.%1$I', name), ', ') FROM unnest(columns) name))
        INTO otherwise
        FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = format('app.%I', relation)::regclass AND i.indisprimary;
    END IF;
    EXECUTE format('INSERT INTO app.%1$I (tenant_id, %2$s)'
                   ' SELECT $1, %3$s FROM json_populate_recordset(NULL::app.%1$I, $2) r%4$s%5$s',
                   relation, listed, picked, young, otherwise)
    USING organization, rows;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$$;
GRANT EXECUTE ON FUNCTION platform.import_rows(text, text[], json, boolean) TO context_owner;
SET LOCAL ROLE context_owner;
