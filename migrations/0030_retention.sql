-- Retention that tells what it did, shows what it would do, and drops whole partitions where that is right.

-- What a batch removed, written with it, until a report has told it. One row per batch, table and organization, never
-- changed: two runs at once do not wait for each other, and what a killed run removed is told by the next.
CREATE TABLE platform.retention_counts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL, -- the platform's own for rows that belong to none, and for what was told already
    table_name text NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0)
);
CREATE INDEX retention_counts_by_organization ON platform.retention_counts (organization_id);
ALTER TABLE platform.retention_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.retention_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.retention_counts TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.retention_counts TO context_definer;

CREATE FUNCTION platform.count_retired(organization uuid, counted text, gone bigint) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.retention_counts (organization_id, table_name, rows)
    SELECT coalesce(organization, platform.organization_id()), counted, gone WHERE gone > 0
$$;

-- Partitions: the owner's part. These three functions alone run as the owner of the tables, since only an owner may
-- make, lock and drop them; their names come from platform.register and the catalog, and what is not over stays.

-- The partitions of a table, with their bounds in time; the one that takes the rest, if there is one, has none.
CREATE FUNCTION platform.partitions_of(wanted text)
RETURNS TABLE (place regclass, first_moment timestamptz, last_moment timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass, substring(b.bounds FROM 'FROM \(''([^'']+)''\)')::timestamptz,
           substring(b.bounds FROM 'TO \(''([^'']+)''\)')::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) AS b (bounds)
    WHERE i.inhparent = to_regclass(wanted)
$$;

-- Rows of a table are over before this moment: the present less its period; with partitions, less what is left of a
-- partition that is not over as a whole.
CREATE FUNCTION platform.over_before(rules jsonb) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN rules ->> 'partitions' IS NULL THEN now() - (rules ->> 'period')::interval
                ELSE date_trunc(rules ->> 'partitions', now() - (rules ->> 'period')::interval, 'UTC') END
$$;

-- The partitions of this month and the next three (of today and the next thirty days): so long nobody has to come.
-- A partition is seen through its table only: it has no policies and no grants of its own.
CREATE FUNCTION platform.make_partitions() RETURNS integer
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
    FOR known IN SELECT g.name, g.rules FROM platform.register g WHERE g.rules ->> 'partitions' IS NOT NULL LOOP
        step := ('1 ' || (known.rules ->> 'partitions'))::interval;
        FOR i IN 0 .. CASE known.rules ->> 'partitions' WHEN 'day' THEN 30 ELSE 3 END LOOP
            start := (date_trunc(known.rules ->> 'partitions', now() AT TIME ZONE 'UTC') + i * step) AT TIME ZONE 'UTC';
            CONTINUE WHEN EXISTS (
                SELECT FROM platform.partitions_of(known.name) p
                WHERE p.first_moment < (start AT TIME ZONE 'UTC' + step) AT TIME ZONE 'UTC' AND p.last_moment > start);
            place := format('%I.%I', known.rules ->> 'schema', concat_ws('_', known.rules ->> 'relation', to_char(
                start AT TIME ZONE 'UTC',
                CASE known.rules ->> 'partitions' WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END)));
            EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY'
                           ' EXCLUDING STATISTICS)', place, known.name);
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', place);
            EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', place);
            FOR hidden IN SELECT a.attname FROM pg_attribute a
                          WHERE a.attrelid = to_regclass(known.name) AND a.attnum > 0 AND a.attstattarget = 0
            LOOP
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', place, hidden);
            END LOOP;
            -- ATTACH lets readers and writers of the other partitions go on, which CREATE … PARTITION OF would not.
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', known.name, place, start,
                           (start AT TIME ZONE 'UTC' + step) AT TIME ZONE 'UTC');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Let nobody write into a partition that is over, until the end of the transaction. Raises lock_not_available.
CREATE FUNCTION platform.freeze_partition(wanted text, part regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM platform.register g CROSS JOIN LATERAL platform.partitions_of(g.name) p
        WHERE g.name = wanted AND p.place = part AND g.rules ->> 'partitions' IS NOT NULL
            AND p.last_moment <= platform.over_before(g.rules))
    THEN
        RAISE EXCEPTION '% is no partition of % that is over', part, wanted USING ERRCODE = 'CX403';
    END IF;
    PERFORM set_config('lock_timeout', '250ms', true);
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', part);
END
$$;

-- The same checks, then the partition goes. Readers of the whole table wait for no longer than we do: 250 ms.
CREATE FUNCTION platform.drop_partition(wanted text, part regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.freeze_partition(wanted, part);
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', wanted, part);
    EXECUTE format('DROP TABLE %s', part);
END
$$;
GRANT EXECUTE ON FUNCTION platform.make_partitions() TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.partitions_of(text), platform.over_before(jsonb),
    platform.freeze_partition(text, regclass), platform.drop_partition(text, regclass) TO context_definer;
ALTER FUNCTION platform.count_retired(uuid, text, bigint) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The rows of erasure's batches, by partition and place: two partitions may have a row at the same place.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.run_batch(platform.erasure_case, text, jsonb, text, text, text, text, bigint);
CREATE FUNCTION platform.run_batch(
    c platform.erasure_case, name text, rules jsonb, source text, act text, still text, done text, most bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    places oid[];
    chosen tid[];
    touched bigint;
BEGIN
    PERFORM set_config('enable_seqscan', 'off', true);
    EXECUTE format('SELECT array_agg(b.place), array_agg(b.spot)'
                   ' FROM (SELECT t.tableoid AS place, t.ctid AS spot FROM %s LIMIT $2) b', source)
    INTO places, chosen USING c, most;
    PERFORM set_config('enable_seqscan', 'on', true);
    IF chosen IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT FROM %s WHERE t.ctid = ANY ($2) AND (t.tableoid, t.ctid) IN (SELECT * FROM unnest($1, $2))'
                   ' FOR UPDATE', platform.place_text(rules, 't'))
    USING places, chosen;
    EXECUTE format('%s WHERE d.ctid = ANY ($3) AND (d.tableoid, d.ctid) IN (SELECT * FROM unnest($2, $3)) AND (%s)',
                   act, still)
    USING c, places, chosen;
    GET DIAGNOSTICS touched = ROW_COUNT;
    PERFORM platform.count_erased(name, done, touched) WHERE done IS NOT NULL;
    RETURN cardinality(chosen);
END
$$;

CREATE OR REPLACE FUNCTION platform.delete_of(c platform.erasure_case, name text, rules jsonb, most bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text := platform.place_text(rules, 't');
    goes text := coalesce('(' || platform.stays_text(name, 't', c, '{}') || ') IS NOT TRUE', 'true')
        || platform.leaf_text(name, rules, 't');
    still text := coalesce('(' || platform.stays_text(name, 'd', c, '{}') || ') IS NOT TRUE', 'true')
        || platform.leaf_text(name, rules, 'd');
    sources text[];
    source text;
    erased bigint := 0;
BEGIN
    IF c.mode = 'whole' AND rules ->> 'whole' = 'keep' THEN
        RETURN 0;
    ELSIF c.mode = 'whole' AND (rules -> 'of_tenant')::boolean THEN
        sources := ARRAY[place || ' WHERE true'];
    ELSE
        sources := array(SELECT format('%s WHERE %s', place, own)
                         FROM unnest(platform.own_texts(rules, 't', c, 'delete_row')) AS own)
            || array(SELECT format('%s JOIN %s ON %s WHERE %s', p.source, place, p.joined, p.condition)
                     FROM platform.doomed_parents(name, 't', c, '{}', 'with_parent') p);
    END IF;
    FOREACH source IN ARRAY sources LOOP
        erased := platform.run_batch(
            c, name, rules, format('%s AND %s AND %s', source, platform.scope_text(rules, 't', c), goes),
            'DELETE FROM ' || platform.place_text(rules, 'd'), still, 'delete', most);
        EXIT WHEN erased > 0;
    END LOOP;
    RETURN erased;
END
$$;

CREATE OR REPLACE FUNCTION platform.empty_of(c platform.erasure_case, name text, rules jsonb, most bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    goes CONSTANT text := coalesce(platform.doomed_text(name, 't', c, '{}'), 'false');
    scope CONSTANT text := platform.scope_text(rules, 't', c);
    act CONSTANT text := platform.emptying_text(c, name, rules);
    ring CONSTANT boolean := rules -> 'parents' @> jsonb_build_array(jsonb_build_object('table', name, 'rule', 'null'));
    cause text;
    emptied bigint := 0;
BEGIN
    FOR cause IN SELECT n.source FROM platform.null_causes(c, name, rules, 't') n LOOP
        emptied := platform.run_batch(
            c, name, rules, format('%s AND %s AND (%s) IS NOT TRUE', cause, scope, goes), act, 'true', 'null', most);
        IF emptied = 0 AND ring THEN
            emptied := platform.run_batch(
                c, name, rules, format('%s AND %s AND (%s)', cause, scope, goes), act, 'true', NULL, most);
        END IF;
        EXIT WHEN emptied > 0;
    END LOOP;
    RETURN emptied;
END
$$;

-- The rules of a table whose rows have a period; audit events go as prefixes of their chains, not as rows.
CREATE FUNCTION platform.periodical(wanted text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.rules FROM platform.register g
    WHERE g.name = wanted AND g.rules ->> 'period' IS NOT NULL AND NOT platform.is_chain(g.name)
$$;

CREATE FUNCTION platform.retirement() RETURNS platform.erasure_case
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c platform.erasure_case := platform.case_of(NULL, 'retire');
BEGIN
    c.holds := EXISTS (SELECT FROM app.legal_holds h WHERE h.released_at IS NULL AND h.until > now());
    RETURN c;
END
$$;

-- Whether a row's period is over and nothing keeps it. $1 is the case.
CREATE FUNCTION platform.over_text(name text, rules jsonb, alias text, c platform.erasure_case) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I < %s', alias, rules ->> 'after', CASE WHEN rules ->> 'partitions' IS NULL
                      THEN format('now() - interval %L', rules ->> 'period')
                      ELSE format('date_trunc(%L, now() - interval %L, ''UTC'')', rules ->> 'partitions',
                                  rules ->> 'period') END)
           || coalesce(' AND (' || platform.stays_text(name, alias, c, '{}') || ') IS NOT TRUE', '')
$$;

-- Where the rows of a table are that go now, each with its condition: its own, and those that go with a parent.
CREATE FUNCTION platform.retiring(name text, alias text, c platform.erasure_case)
RETURNS TABLE (source text, condition text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own jsonb;
BEGIN
    SELECT g.rules INTO STRICT own FROM platform.register g WHERE g.name = retiring.name;
    IF platform.periodical(name) IS NOT NULL THEN
        RETURN QUERY SELECT platform.place_text(own, alias), platform.over_text(name, own, alias, c);
    END IF;
    RETURN QUERY
    SELECT format('%s JOIN %s ON %s', platform.place_text(own, alias), p.source,
                  platform.join_text(link, alias, alias || 'p')), p.condition
    FROM jsonb_array_elements(own -> 'parents') AS link
    CROSS JOIN LATERAL platform.retiring(link ->> 'table', alias || 'p', c) p
    WHERE link ->> 'rule' = 'with_parent' AND link ->> 'table' <> retiring.name;
END
$$;

-- Run a deletion of `d`, and count what it removed for each organization. $1 and $2 are the rows that are over.
CREATE FUNCTION platform.retire_by(name text, rules jsonb, act text, places oid[], spots tid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'WITH gone AS (%s RETURNING %s AS organization)'
        ' INSERT INTO platform.retention_counts (organization_id, table_name, rows)'
        ' SELECT gone.organization, %L, count(*) FROM gone GROUP BY 1', act,
        CASE WHEN (rules -> 'of_tenant')::boolean THEN 'd.tenant_id' ELSE 'platform.organization_id()' END, name)
    USING places, spots;
END
$$;

-- Remove what goes with the rows that are over, deepest first; `source` joins `alias` with them, who are `t`.
CREATE FUNCTION platform.retire_below(name text, alias text, source text, places oid[], spots tid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child record;
BEGIN
    FOR child IN SELECT g.name, g.rules, link
                 FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'parents') AS link
                 WHERE link ->> 'table' = retire_below.name AND link ->> 'rule' = 'with_parent'
                     AND g.name <> retire_below.name
                 ORDER BY g.position
    LOOP
        PERFORM platform.retire_below(
            child.name, alias || 'c',
            format('%s JOIN %s ON %s', source, platform.place_text(child.rules, alias || 'c'),
                   platform.join_text(child.link, alias || 'c', alias)), places, spots);
        PERFORM platform.retire_by(
            child.name, child.rules,
            format('DELETE FROM %s USING %s WHERE %s AND t.ctid = ANY ($2)'
                   ' AND (t.tableoid, t.ctid) IN (SELECT * FROM unnest($1, $2))',
                   platform.place_text(child.rules, 'd'), source, platform.join_text(child.link, 'd', alias)),
            places, spots);
    END LOOP;
END
$$;

-- Delete up to `most` rows whose period is over, the oldest first, with what goes with them. Rows that somebody else
-- has locked are skipped: another run has them, or the next one will. The number of rows, without those below.
CREATE OR REPLACE FUNCTION platform.retire(wanted text, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c CONSTANT platform.erasure_case := platform.retirement();
    own CONSTANT jsonb := platform.periodical(wanted);
    places oid[];
    spots tid[];
BEGIN
    IF own IS NULL THEN
        RAISE EXCEPTION '% has no period', wanted USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM set_config('enable_seqscan', 'off', true);
    EXECUTE format('SELECT array_agg(o.place), array_agg(o.spot) FROM (SELECT t.tableoid AS place, t.ctid AS spot'
                   ' FROM %s WHERE %s ORDER BY t.%I LIMIT $2 FOR UPDATE OF t SKIP LOCKED) o',
                   platform.place_text(own, 't'), platform.over_text(wanted, own, 't', c), own ->> 'after')
    INTO places, spots USING c, most;
    PERFORM set_config('enable_seqscan', 'on', true);
    IF spots IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM platform.retire_below(wanted, 't', platform.place_text(own, 't'), places, spots);
    PERFORM platform.retire_by(
        wanted, own, format('DELETE FROM %s WHERE d.ctid = ANY ($2)'
                            ' AND (d.tableoid, d.ctid) IN (SELECT * FROM unnest($1, $2))',
                            platform.place_text(own, 'd')), places, spots);
    RETURN cardinality(spots);
END
$$;

-- Drop the oldest partition that is over as a whole and has no row that something keeps, or on which others hang.
-- dropped | busy (somebody works with the table: try again) | none (batches do the rest)
CREATE FUNCTION platform.retire_partition(wanted text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c CONSTANT platform.erasure_case := platform.retirement();
    own CONSTANT jsonb := platform.periodical(wanted);
    inside CONSTANT text := format(
        '%1$s WHERE t.%2$I >= $2 AND t.%2$I < $3', platform.place_text(own, 't'), own ->> 'after');
    kept CONSTANT text := concat_ws(' OR ', platform.stays_text(wanted, 't', c, '{}'), (
        SELECT string_agg(format('EXISTS (SELECT FROM %s WHERE %s)', platform.place_text(g.rules, 'x'),
                                 platform.join_text(link, 'x', 't')), ' OR ')
        FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'parents') AS link
        WHERE link ->> 'table' = wanted AND g.name <> wanted));
    part record;
    found boolean := false;
BEGIN
    FOR part IN SELECT * FROM platform.partitions_of(wanted) p
                WHERE own ->> 'partitions' IS NOT NULL AND p.last_moment <= platform.over_before(own)
                ORDER BY p.last_moment
    LOOP
        IF kept <> '' THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s AND (%s))', inside, kept)
            INTO found USING c, part.first_moment, part.last_moment;
            CONTINUE WHEN found;
        END IF;
        BEGIN
            PERFORM platform.freeze_partition(wanted, part.place);
            EXECUTE format(
                'INSERT INTO platform.retention_counts (organization_id, table_name, rows)'
                ' SELECT %s, %L, count(*) FROM %s GROUP BY 1',
                CASE WHEN (own -> 'of_tenant')::boolean THEN 't.tenant_id' ELSE 'platform.organization_id()' END,
                wanted, inside)
            USING c, part.first_moment, part.last_moment;
            PERFORM platform.drop_partition(wanted, part.place);
            RETURN 'dropped';
        EXCEPTION
            WHEN lock_not_available THEN RETURN 'busy';
            WHEN foreign_key_violation THEN NULL; -- somebody has hung a row on it just now: batches
        END;
    END LOOP;
    RETURN 'none';
END
$$;

CREATE FUNCTION platform.partitioned_tables() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.name FROM platform.register g
    WHERE g.rules ->> 'partitions' IS NOT NULL AND NOT platform.is_chain(g.name) ORDER BY g.position
$$;

-- The tables whose rows retention removes: those with a period, and those whose rows go with such ones.
CREATE FUNCTION platform.retirable_tables() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.name FROM platform.register g
    WHERE EXISTS (SELECT FROM platform.retiring(g.name, 't', platform.retirement())) ORDER BY g.position
$$;

-- How many rows of a table a run would remove now: the same conditions, nothing is changed.
CREATE FUNCTION platform.retirable(wanted text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c CONSTANT platform.erasure_case := platform.retirement();
    total bigint;
BEGIN
    EXECUTE (
        SELECT format('SELECT count(*) FROM (%s) AS over', string_agg(
                   format('SELECT t.tableoid, t.ctid FROM %s WHERE %s', r.source, r.condition), ' UNION '))
        FROM platform.retiring(wanted, 't', c) r)
    INTO total USING c;
    RETURN total;
END
$$;

CREATE FUNCTION platform.retention_plan() RETURNS TABLE (table_name text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT name, platform.retirable(name) FROM platform.retirable_tables() AS name
$$;

-- Tell one organization, in its chain, what was removed there; then it is the platform's to tell. False when all know.
-- Dropped audit events alone are told in the platform's chain only, or each event of ours would lead to another.
CREATE FUNCTION platform.report_retired(request text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    organization uuid;
    removed jsonb;
BEGIN
    SELECT n.organization_id INTO organization FROM platform.retention_counts n
    WHERE n.organization_id <> platform.organization_id() LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    removed := platform.take_counts(organization);
    INSERT INTO platform.retention_counts (organization_id, table_name, rows)
    SELECT platform.organization_id(), told.key, told.value::bigint FROM jsonb_each_text(removed) AS told;
    IF removed - 'app.audit_events' = '{}' OR NOT platform.takes_events(organization) THEN
        RETURN true;
    END IF;
    BEGIN
        PERFORM platform.record_event(organization, 'retention.completed', 'retention', NULL,
                                      jsonb_build_object('removed', removed), request);
    EXCEPTION WHEN unique_violation OR foreign_key_violation THEN -- a chain that was tampered with, or is gone by now
        RAISE WARNING 'the audit chain of organization % takes no event', organization;
    END;
    RETURN true;
END
$$;

-- Take an organization's counts, summed up by table; those that another run has taken are its own.
CREATE FUNCTION platform.take_counts(organization uuid) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (
        DELETE FROM platform.retention_counts n
        WHERE n.id IN (SELECT x.id FROM platform.retention_counts x WHERE x.organization_id = organization
                       FOR UPDATE SKIP LOCKED)
        RETURNING n.table_name, n.rows)
    SELECT coalesce(jsonb_object_agg(t.table_name, t.rows), '{}')
    FROM (SELECT taken.table_name, sum(taken.rows)::bigint AS rows FROM taken GROUP BY 1) t
$$;

-- The end of a run, in the platform's chain: what it removed, with what runs before it had no time to tell.
CREATE FUNCTION platform.report_run(complete boolean, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed CONSTANT jsonb := platform.take_counts(platform.organization_id());
BEGIN
    PERFORM platform.record_event(
        NULL, 'retention.completed', 'retention', NULL,
        jsonb_build_object('removed', removed - 'expired_exports',
                           'expired_exports', coalesce((removed ->> 'expired_exports')::bigint, 0),
                           'complete', complete), request);
END
$$;

-- The objects of an export are gone: as before, told in the organization's chain, and the first who says so is counted.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.mark_export_expired(uuid);
CREATE FUNCTION platform.mark_export_expired(job uuid, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    removed CONSTANT timestamptz := (SELECT e.removed_at FROM platform.exports e WHERE e.id = job FOR UPDATE);
    place uuid;
BEGIN
    UPDATE platform.exports SET status = 'expired'
    WHERE id = job AND status = 'ready' AND expires_at <= clock_timestamp()
    RETURNING organization_id INTO place;
    PERFORM platform.export_removed(job);
    PERFORM platform.count_retired(NULL, 'expired_exports', 1)
    FROM platform.exports e WHERE e.id = job AND e.removed_at IS NOT NULL AND removed IS NULL;
    IF platform.takes_events(place) THEN
        PERFORM platform.record_event(
            place, 'export.expired', 'export', job::text, '{}', request);
    END IF;
END
$$;

GRANT EXECUTE ON FUNCTION platform.retire_partition(text), platform.partitioned_tables(),
    platform.retirable_tables(), platform.retirable(text), platform.report_retired(text),
    platform.report_run(boolean, text), platform.mark_export_expired(uuid, text) TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.retention_plan() TO context_owner;
SET LOCAL ROLE context_owner;
