-- Incidents: an organization's register of personal data breaches with its 72-hour clock (Art. 33 and 34 GDPR), what they
-- touched according to the audit chain, who was told when, and the platform's own, told to every organization concerned.
-- squawk-ignore-file constraint-missing-not-valid

-- What happened, when the organization became aware of it (detected_at, from which the 72 hours count), how it judges it.
-- first_detected_at is what was stated first: a correction leaves its trace. platform_incident_id: told by the platform.
CREATE TABLE app.incidents (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title text NOT NULL CHECK (title ~ '\S' AND length(title) <= 255),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    severity text NOT NULL CHECK (severity IN ('P0', 'P1', 'P2', 'P3')),
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'contained', 'closed')),
    detected_at timestamptz NOT NULL CHECK (isfinite(detected_at)),
    first_detected_at timestamptz NOT NULL CHECK (isfinite(first_detected_at)),
    started_at timestamptz CHECK (isfinite(started_at)),
    ended_at timestamptz CHECK (isfinite(ended_at)),
    data_classes text[] NOT NULL DEFAULT '{}',
    risk text NOT NULL DEFAULT 'undecided' CHECK (risk IN ('undecided', 'unlikely', 'likely', 'high')),
    affected_people bigint CHECK (affected_people >= 0),
    affected_records bigint CHECK (affected_records >= 0),
    consequences text NOT NULL DEFAULT '' CHECK (length(consequences) <= 10000),
    measures text NOT NULL DEFAULT '' CHECK (length(measures) <= 10000),
    contact text NOT NULL DEFAULT '' CHECK (length(contact) <= 500),
    no_notification_reason text NOT NULL DEFAULT '' CHECK (length(no_notification_reason) <= 2000),
    no_communication_reason text NOT NULL DEFAULT '' CHECK (length(no_communication_reason) <= 2000),
    platform_incident_id uuid,
    platform_detected_at timestamptz,
    scope_from_at timestamptz,
    scope_to_at timestamptz,
    scope_actor_id uuid,
    scope_by_network boolean NOT NULL DEFAULT false,
    scope_events bigint,
    scope_people bigint,
    scoped_at timestamptz,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz CHECK ((closed_at IS NOT NULL) = (status = 'closed')),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT incidents_once_from_the_platform UNIQUE (tenant_id, platform_incident_id),
    CONSTRAINT incidents_times CHECK (ended_at >= started_at),
    CONSTRAINT incidents_of_somebody CHECK (created_by IS NOT NULL OR platform_incident_id IS NOT NULL)
);
CREATE INDEX incidents_newest ON app.incidents (tenant_id, created_at DESC, id DESC);
CREATE INDEX incidents_by_maker ON app.incidents (tenant_id, created_by);
CREATE INDEX incidents_by_actor ON app.incidents (tenant_id, scope_actor_id);
CREATE INDEX incidents_by_end ON app.incidents (closed_at);
CREATE INDEX incidents_running ON app.incidents (detected_at) WHERE status <> 'closed';
ALTER TABLE app.incidents ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN description SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN consequences SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN measures SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN contact SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN no_notification_reason SET STATISTICS 0;
ALTER TABLE app.incidents ALTER COLUMN no_communication_reason SET STATISTICS 0;

-- Who was told when: appended, never changed. `words` is what the people concerned were told by mail.
CREATE TABLE app.incident_notices (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    incident_id uuid NOT NULL,
    recipient text NOT NULL CHECK (recipient IN ('authority', 'subjects', 'controller', 'processor', 'public', 'other')),
    channel text NOT NULL CHECK (channel IN ('mail', 'letter', 'portal', 'phone', 'in_person', 'website', 'other')),
    told_at timestamptz NOT NULL CHECK (isfinite(told_at)),
    reference text CHECK (length(reference) BETWEEN 1 AND 255),
    delay_reason text CHECK (length(delay_reason) BETWEEN 1 AND 2000),
    people bigint CHECK (people >= 0),
    words text CHECK (length(words) BETWEEN 1 AND 10000),
    recorded_by uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT incident_notices_of_an_incident FOREIGN KEY (tenant_id, incident_id) REFERENCES app.incidents
);
CREATE INDEX incident_notices_by_incident ON app.incident_notices (tenant_id, incident_id);
CREATE INDEX incident_notices_by_recorder ON app.incident_notices (tenant_id, recorded_by);
ALTER TABLE app.incident_notices ALTER COLUMN reference SET STATISTICS 0;
ALTER TABLE app.incident_notices ALTER COLUMN delay_reason SET STATISTICS 0;
ALTER TABLE app.incident_notices ALTER COLUMN words SET STATISTICS 0;

-- The people whom an incident concerns, by its scope: ids only, also of those who are gone. told_at: by our mail, once.
CREATE TABLE app.incident_subjects (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    incident_id uuid NOT NULL,
    user_id uuid NOT NULL,
    events bigint NOT NULL,
    resources bigint NOT NULL,
    told_at timestamptz,
    notice_id uuid,
    PRIMARY KEY (tenant_id, incident_id, user_id),
    CONSTRAINT incident_subjects_of_an_incident FOREIGN KEY (tenant_id, incident_id) REFERENCES app.incidents
);
CREATE INDEX incident_subjects_by_person ON app.incident_subjects (tenant_id, user_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['incidents', 'incident_notices', 'incident_subjects'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON app.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        EXECUTE format('CREATE POLICY manager ON app.%I AS RESTRICTIVE TO audit_fn'
                       ' USING ((SELECT app.sealed_holds(ARRAY[''incident.manage''])))'
                       ' WITH CHECK ((SELECT app.sealed_holds(ARRAY[''incident.manage''])))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON app.%I TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY opener ON app.incidents AS RESTRICTIVE FOR INSERT TO audit_fn
    WITH CHECK (created_by = (SELECT app.principal_id()) AND platform_incident_id IS NULL);
CREATE POLICY recorder ON app.incident_notices AS RESTRICTIVE FOR INSERT TO audit_fn
    WITH CHECK (recorded_by = (SELECT app.principal_id()) AND words IS NULL);
GRANT SELECT ON app.incidents, app.incident_notices, app.incident_subjects TO audit_fn;
GRANT INSERT (tenant_id, title, description, severity, status, detected_at, first_detected_at, started_at, ended_at,
              data_classes, risk, affected_people, affected_records, consequences, measures, contact,
              no_notification_reason, no_communication_reason, created_by),
    UPDATE (title, description, severity, status, detected_at, started_at, ended_at, data_classes, risk, affected_people,
            affected_records, consequences, measures, contact, no_notification_reason, no_communication_reason,
            updated_at, closed_at, version) ON app.incidents TO audit_fn;
GRANT INSERT (tenant_id, incident_id, recipient, channel, told_at, reference, delay_reason, people, recorded_by)
    ON app.incident_notices TO audit_fn;
GRANT SELECT (tenant_id, id, title, description, severity, status, detected_at, first_detected_at, started_at, ended_at,
              data_classes, risk, affected_people, affected_records, consequences, measures, contact,
              no_notification_reason, no_communication_reason, platform_incident_id, platform_detected_at, scope_from_at,
              scope_to_at, scope_actor_id, scope_by_network, scope_events, scope_people, scoped_at, created_by,
              created_at, updated_at, closed_at) ON app.incidents TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, incident_id, recipient, channel, told_at, reference, delay_reason, people, words,
              recorded_by, recorded_at) ON app.incident_notices TO exports_jobs_fn;
GRANT SELECT (tenant_id, incident_id, user_id, events, resources, told_at, notice_id) ON app.incident_subjects
    TO exports_jobs_fn;

-- What befell the platform itself, and the organizations that it concerns: opened_at, when each was told (Art. 33(2));
-- mails, to how many people there.
CREATE TABLE platform.incidents (
    id uuid PRIMARY KEY,
    title text NOT NULL CHECK (title ~ '\S' AND length(title) <= 255),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    severity text NOT NULL CHECK (severity IN ('P0', 'P1', 'P2', 'P3')),
    detected_at timestamptz NOT NULL CHECK (isfinite(detected_at)),
    data_classes text[] NOT NULL DEFAULT '{}',
    notified_at timestamptz CHECK (isfinite(notified_at)),
    reason text CHECK (length(reason) BETWEEN 1 AND 2000),
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE INDEX platform_incidents_newest ON platform.incidents (created_at DESC, id DESC);
CREATE INDEX platform_incidents_by_end ON platform.incidents (closed_at);
ALTER TABLE platform.incidents ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE platform.incidents ALTER COLUMN description SET STATISTICS 0;
ALTER TABLE platform.incidents ALTER COLUMN reason SET STATISTICS 0;

CREATE TABLE platform.incident_organizations (
    incident_id uuid NOT NULL REFERENCES platform.incidents ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    opened_at timestamptz,
    mails integer,
    PRIMARY KEY (incident_id, tenant_id)
);
CREATE INDEX incident_organizations_waiting ON platform.incident_organizations (incident_id, tenant_id)
    WHERE opened_at IS NULL;

-- A mail about an incident: to a manager (opened, due, overdue, and drafts that she asked for) or to a person concerned
-- (told). Alarms are written once for each time limit; nobody's id is the platform's operator, or that nobody is there.
CREATE TABLE platform.incident_mails (
    id uuid PRIMARY KEY,
    tenant_id uuid,
    incident_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opened', 'due', 'overdue', 'draft_authority', 'draft_subjects', 'told')),
    due_at timestamptz NOT NULL,
    account_id uuid,
    notice_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT incident_mails_once UNIQUE NULLS NOT DISTINCT (incident_id, kind, due_at, account_id)
);
CREATE INDEX incident_mails_by_account ON platform.incident_mails (account_id);
CREATE INDEX incident_mails_by_time ON platform.incident_mails (created_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['incidents', 'incident_organizations', 'incident_mails'] LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON platform.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON platform.%I TO context_definer', name);
    END LOOP;
END
$$;

-- Until when the authority has to be notified (Art. 33(1)): hours, whatever the session's time zone does.
CREATE FUNCTION platform.notify_by(aware timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN aware + interval '72 hours';

-- Whether the clock still asks for a decision: neither is the authority notified, nor is a reason written down why not.
CREATE FUNCTION app.incident_undecided(i app.incidents) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (i).status <> 'closed' AND NOT ((i).risk = 'unlikely' AND (i).no_notification_reason ~ '\S')
        AND NOT EXISTS (SELECT FROM app.incident_notices n
                        WHERE n.tenant_id = (i).tenant_id AND n.incident_id = (i).id AND n.recipient = 'authority')
$$;

-- Why an incident cannot be closed yet, a code; null when it can (Art. 33(1), 33(5), 34(1), 34(3)).
CREATE FUNCTION app.incident_lacks(i app.incidents) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        SELECT count(*) FILTER (WHERE n.recipient = 'authority') AS authority,
               min(n.told_at) FILTER (WHERE n.recipient = 'authority') AS first,
               count(*) FILTER (WHERE n.recipient = 'authority' AND n.delay_reason IS NOT NULL) AS excused,
               count(*) FILTER (WHERE n.recipient IN ('subjects', 'public')) AS people
        FROM app.incident_notices n WHERE n.tenant_id = (i).tenant_id AND n.incident_id = (i).id)
    SELECT CASE
        WHEN (i).risk = 'undecided' THEN 'risk'
        WHEN t.authority = 0 AND NOT ((i).risk = 'unlikely' AND (i).no_notification_reason ~ '\S') THEN 'notification'
        WHEN t.first > platform.notify_by((i).detected_at) AND t.excused = 0 THEN 'delay_reason'
        WHEN (i).risk = 'high' AND t.people = 0 AND (i).no_communication_reason !~ '\S' THEN 'communication' END
    FROM told t
$$;

CREATE FUNCTION app.incident_notice_json(n app.incident_notices) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', (n).id, 'recipient', (n).recipient, 'channel', (n).channel, 'told_at', platform.utc((n).told_at),
    'reference', (n).reference, 'delay_reason', (n).delay_reason, 'people', (n).people, 'text', (n).words,
    'recorded_by', (n).recorded_by, 'recorded_at', platform.utc((n).recorded_at));

-- An incident as the API shows it.
CREATE FUNCTION app.incident_json(i app.incidents) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'id', (i).id, 'title', (i).title, 'description', (i).description, 'severity', (i).severity,
        'status', (i).status, 'risk', (i).risk, 'detected_at', platform.utc((i).detected_at),
        'first_detected_at', platform.utc((i).first_detected_at),
        'notify_by', platform.utc(platform.notify_by((i).detected_at)),
        'undecided', app.incident_undecided(i),
        'overdue', app.incident_undecided(i) AND platform.notify_by((i).detected_at) <= now(),
        'started_at', platform.utc((i).started_at), 'ended_at', platform.utc((i).ended_at),
        'data_classes', to_json((i).data_classes), 'affected_people', (i).affected_people,
        'affected_records', (i).affected_records, 'consequences', (i).consequences, 'measures', (i).measures,
        'contact', (i).contact, 'no_notification_reason', (i).no_notification_reason,
        'no_communication_reason', (i).no_communication_reason,
        'told_by_platform', CASE WHEN (i).platform_incident_id IS NOT NULL THEN json_build_object(
            'incident_id', (i).platform_incident_id, 'detected_at', platform.utc((i).platform_detected_at)) END,
        'scope', CASE WHEN (i).scoped_at IS NOT NULL THEN json_build_object(
            'from', platform.utc((i).scope_from_at), 'to', platform.utc((i).scope_to_at), 'actor', (i).scope_actor_id,
            'by_address', (i).scope_by_network, 'events', (i).scope_events, 'people', (i).scope_people,
            'told', (SELECT count(*) FROM app.incident_subjects s WHERE s.tenant_id = (i).tenant_id
                         AND s.incident_id = (i).id AND s.told_at IS NOT NULL),
            'at', platform.utc((i).scoped_at)) END,
        'notices', (SELECT coalesce(json_agg(app.incident_notice_json(n) ORDER BY n.told_at, n.recorded_at, n.id), '[]')
                    FROM app.incident_notices n
                    WHERE n.tenant_id = (i).tenant_id AND n.incident_id = (i).id),
        'created_by', (i).created_by, 'created_at', platform.utc((i).created_at),
        'updated_at', platform.utc((i).updated_at), 'closed_at', platform.utc((i).closed_at), 'version', (i).version)
$$;

-- The sealed organization's events in a time range, by what they touched and who did it; of one actor, with the API keys
-- that she made, or of the addresses of a network. `own`: of these types an event is about whoever did it.
CREATE FUNCTION app.incident_events(since timestamptz, until timestamptz, who uuid, network inet)
RETURNS TABLE (kind text, resource text, outcome text, actor_type text, actor_id uuid, named text, n bigint,
               last_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.resource_type, e.resource_id, e.outcome, e.actor_type, e.actor_id,
           coalesce(e.data ->> 'user_id', e.data ->> 'subject_user_id', e.data ->> 'assignee_id'), count(*), max(e.at)
    FROM app.audit_events e
    WHERE e.tenant_id = (SELECT app.tenant_id()) AND e.at BETWEEN since AND until
        AND e.seq > (SELECT coalesce(max(h.base_seq), 0) FROM app.audit_heads h
                     WHERE h.tenant_id = (SELECT app.tenant_id()))
        AND (who IS NULL OR e.actor_id = who OR e.actor_id = ANY (ARRAY(SELECT app.keys_made_by(who))))
        AND (network IS NULL OR CASE WHEN pg_input_is_valid(e.personal ->> 'ip', 'inet')
                                     THEN (e.personal ->> 'ip')::inet <<= network END)
        AND app.sealed_holds('{incident.manage}')
    GROUP BY 1, 2, 3, 4, 5, 6
$$;

-- What those events touched, in numbers. `whole`: a copy of the whole organization is among it.
CREATE FUNCTION app.incident_facts(since timestamptz, until timestamptz, who uuid, network inet) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH found AS MATERIALIZED (SELECT * FROM app.incident_events(since, until, who, network)),
    actors AS (
        SELECT f.actor_type, f.actor_id, sum(f.n) AS n FROM found f GROUP BY f.actor_type, f.actor_id),
    kinds AS (
        SELECT t.kind, sum(t.n) AS n, count(*) FILTER (WHERE t.resource IS NOT NULL) AS resources,
               coalesce(sum(t.n) FILTER (WHERE t.resource IS NULL), 0) AS lists
        FROM (SELECT f.kind, f.resource, sum(f.n) AS n FROM found f WHERE f.outcome = 'success' GROUP BY 1, 2) t
        GROUP BY t.kind)
    SELECT json_build_object(
        'events', (SELECT coalesce(sum(f.n), 0) FROM found f),
        'refused', (SELECT coalesce(sum(f.n), 0) FROM found f WHERE f.outcome <> 'success'),
        'known_since', (SELECT CASE WHEN h.base_seq > 0 THEN platform.utc(
                            (SELECT min(e.at) FROM app.audit_events e
                             WHERE e.tenant_id = h.tenant_id AND e.seq = h.base_seq + 1)) END
                        FROM app.audit_heads h WHERE h.tenant_id = app.tenant_id()),
        'actor_count', (SELECT count(*) FROM actors),
        'actors', (SELECT coalesce(json_agg(json_build_object('type', a.actor_type, 'id', a.actor_id, 'events', a.n)
                                            ORDER BY a.n DESC, a.actor_id), '[]')
                   FROM (SELECT * FROM actors ORDER BY n DESC, actor_id LIMIT 100) a),
        'resources', (SELECT coalesce(json_agg(json_build_object('type', k.kind, 'events', k.n,
                                                                 'resources', k.resources, 'lists', k.lists)
                                               ORDER BY k.n DESC, k.kind), '[]') FROM kinds k))
    WHERE app.sealed_holds('{incident.manage}')
$$;

-- Of which rows of a table a person can be told by a column of the register, for an alias: (VALUES …) of her ids.
CREATE FUNCTION platform.people_text(rules jsonb, alias text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('(%I.%I)', alias, s ->> 'column'), ', ' ORDER BY s ->> 'column')
    FROM jsonb_array_elements(rules -> 'subjects') AS s WHERE s ->> 'match' = 'account'
$$;

-- The people whom those events touched: who the resource is, whose row it is, who made it (it may be gone), whom the event
-- names, who did it where it is about her own account; of a list that was read, everybody who stood on it then, and of a
-- copy of the whole organization everybody in it. Which resource stands in which table, the register says (`audited`).
CREATE FUNCTION app.incident_people(since timestamptz, until timestamptz, who uuid, network inet)
RETURNS TABLE (user_id uuid, events bigint, resources bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := '{}';
    own text[] := '{}';
    made text[] := '{}';
    place record;
    people text;
    here text;
    reads text;
BEGIN
    IF NOT app.sealed_holds('{incident.manage}') THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    END IF;
    FOR place IN
        SELECT r.name, r.rules, r.rules ->> 'schema' AS schema, a.key AS kind, a.value AS key_column,
               r.rules -> 'subjects' @> jsonb_build_array(
                   jsonb_build_object('column', a.value, 'match', 'account')) AS is_person,
               format_type(k.atttypid, NULL) = 'uuid' AS by_id,
               EXISTS (SELECT FROM pg_attribute c
                       WHERE c.attrelid = k.attrelid AND c.attname = 'created_at') AS has_age
        FROM platform.register r
        CROSS JOIN LATERAL (
            SELECT j.key, j.value FROM jsonb_each_text(r.rules -> 'audited') j
            UNION ALL SELECT NULL, 'tenant_id' WHERE r.rules ->> 'schema' = 'app') a
        JOIN pg_attribute k ON k.attrelid = to_regclass(r.name) AND k.attname = a.value
        ORDER BY r.position, a.key
    LOOP
        people := platform.people_text(place.rules, 'd');
        here := CASE place.schema WHEN 'app' THEN 'd.tenant_id = $5'
                    ELSE format('EXISTS (SELECT FROM platform.job_tenants j WHERE j.job_id = d.%I AND j.tenant_id = $5)',
                                place.key_column) END;
        IF place.kind IS NOT NULL AND place.is_person THEN
            parts := parts || format('SELECT t.key, t.n, t.id FROM touched t WHERE t.kind = %L AND t.id IS NOT NULL',
                                     place.kind);
        ELSIF place.kind IS NOT NULL AND place.schema <> 'identity' AND place.by_id AND people IS NOT NULL THEN
            parts := parts || format(
                'SELECT t.key, t.n, p.id FROM touched t JOIN %s ON d.%I = t.id AND %s'
                ' CROSS JOIN LATERAL (VALUES %s) p (id) WHERE t.kind = %L',
                platform.place_text(place.rules, 'd'), place.key_column, here, people, place.kind);
            made := made || (place.kind || '.created');
        END IF;
        IF place.schema = 'identity' AND NOT place.is_person THEN
            own := own || place.kind;
        END IF;
        CONTINUE WHEN place.schema = 'identity' OR people IS NULL;
        reads := CASE WHEN place.kind IS NULL THEN 'wholes t'
                      ELSE format('(SELECT * FROM lists l WHERE l.kind = %L) t', place.kind) END;
        IF place.name = 'app.audit_events' THEN
            parts := parts || format(
                'SELECT t.key, t.n, p.id FROM %s CROSS JOIN LATERAL ('
                'SELECT DISTINCT d.actor_id FROM app.audit_events d WHERE d.tenant_id = $5 AND d.actor_type = ''user'''
                ' AND d.at <= t.last_at UNION ALL SELECT m.user_id FROM app.api_key_makers m WHERE m.tenant_id = $5'
                ') p (id)', reads);
        ELSE
            parts := parts || format(
                'SELECT t.key, t.n, p.id FROM %s JOIN %s ON %s%s CROSS JOIN LATERAL (VALUES %s) p (id)', reads,
                platform.place_text(place.rules, 'd'), here,
                CASE WHEN place.has_age THEN ' AND d.created_at <= t.last_at' ELSE '' END, people);
        END IF;
        IF place.name = 'app.members' THEN -- who stood on the list then, and has left since
            parts := parts || format(
                'SELECT t.key, t.n, CASE WHEN pg_input_is_valid(g.resource_id, ''uuid'') THEN g.resource_id::uuid END'
                ' FROM %s JOIN app.audit_events g ON g.tenant_id = $5 AND g.at >= $1'
                ' AND g.action IN (''member.left'', ''member.removed'', ''member.erased'')', reads);
        END IF;
    END LOOP;
    RETURN QUERY EXECUTE
        'WITH found AS MATERIALIZED ('
        '    SELECT * FROM app.incident_events($1, $2, $3, $4) f WHERE f.outcome = ''success'''
        '), touched AS MATERIALIZED ('
        '    SELECT row_number() OVER () AS key, g.*,'
        '           CASE WHEN pg_input_is_valid(g.resource, ''uuid'') THEN g.resource::uuid END AS id'
        '    FROM (SELECT f.kind, f.resource, sum(f.n) AS n, max(f.last_at) AS last_at FROM found f'
        '          WHERE f.kind <> ALL ($6) GROUP BY f.kind, f.resource) g'
        '), lists AS MATERIALIZED (SELECT * FROM touched t WHERE t.resource IS NULL'
        '), wholes AS MATERIALIZED ('
        '    SELECT t.key, t.n, t.last_at FROM touched t WHERE t.kind = ''export'' AND EXISTS ('
        '        SELECT FROM app.audit_events q WHERE q.tenant_id = $5 AND q.action = ''export.requested'''
        '            AND q.resource_id = t.resource AND q.data ->> ''scope'' = ''organization'')'
        '), by_row (key, n, id) AS ('
        '    SELECT t.key, t.n, coalesce(k.user_id, m.actor_id) FROM app.audit_events m'
        '    JOIN touched t ON t.resource = m.resource_id AND t.kind || ''.created'' = m.action'
        '    LEFT JOIN app.api_key_makers k ON k.tenant_id = $5 AND m.actor_type = ''api_key'' AND k.key_id = m.actor_id'
        '    WHERE m.tenant_id = $5 AND m.action = ANY ($7)'
        '    UNION ALL ' || array_to_string(parts, ' UNION ALL ') ||
        '), concerned (id, n) AS ('
        '    SELECT p.id, p.n FROM (SELECT DISTINCT r.key, r.n, r.id FROM by_row r) p'
        '    UNION ALL SELECT f.actor_id, sum(f.n) FROM found f'
        '    WHERE f.actor_type = ''user'' AND f.kind = ANY ($6) GROUP BY f.kind, f.actor_id'
        '    UNION ALL SELECT CASE WHEN pg_input_is_valid(f.named, ''uuid'') THEN f.named::uuid END, sum(f.n) FROM found f'
        '    WHERE f.named IS NOT NULL GROUP BY f.kind, f.resource, f.named)'
        ' SELECT c.id, sum(c.n)::bigint, count(*) FROM concerned c WHERE c.id IS NOT NULL GROUP BY c.id'
    USING since, until, who, network, app.tenant_id(), own, made;
END
$$;

-- Make a scope the incident's: its numbers, the people, and the data classes beside those that stand there. Outcome: done,
-- unknown, closed. Who was told already stays.
CREATE FUNCTION app.keep_scope(
    incident uuid, since timestamptz, until timestamptz, who uuid, network inet, events bigint, classes text[]
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state text;
BEGIN
    IF NOT app.sealed_holds('{incident.manage}') THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    END IF;
    SELECT i.status INTO state FROM app.incidents i
    WHERE i.tenant_id = app.tenant_id() AND i.id = incident FOR NO KEY UPDATE;
    IF state IS NULL OR state = 'closed' THEN
        RETURN coalesce(state, 'unknown');
    END IF;
    DELETE FROM app.incident_subjects s
    WHERE s.tenant_id = app.tenant_id() AND s.incident_id = incident AND s.told_at IS NULL;
    INSERT INTO app.incident_subjects AS s (tenant_id, incident_id, user_id, events, resources)
    SELECT app.tenant_id(), incident, p.user_id, p.events, p.resources
    FROM app.incident_people(since, until, who, network) p
    ON CONFLICT (tenant_id, incident_id, user_id)
        DO UPDATE SET events = EXCLUDED.events, resources = EXCLUDED.resources;
    UPDATE app.incidents i SET scope_from_at = since, scope_to_at = until, scope_actor_id = who,
        scope_by_network = network IS NOT NULL, scope_events = keep_scope.events, scoped_at = clock_timestamp(),
        scope_people = (SELECT count(*) FROM app.incident_subjects s
                        WHERE s.tenant_id = app.tenant_id() AND s.incident_id = incident),
        data_classes = ARRAY(SELECT DISTINCT c FROM unnest(i.data_classes || classes) c ORDER BY c),
        updated_at = now(), version = i.version + 1
    WHERE i.tenant_id = app.tenant_id() AND i.id = incident;
    RETURN 'done';
END
$$;

-- Those of an organization who may manage its incidents, owners first, at most twenty.
CREATE FUNCTION platform.incident_managers(organization uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.user_id FROM app.members m
    JOIN identity.accounts a ON a.id = m.user_id AND a.status = 'active'
    LEFT JOIN platform.roles r ON r.name = m.role
    LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
    WHERE m.tenant_id = organization AND 'incident.manage' = ANY (coalesce(r.permissions, c.permissions))
    ORDER BY m.role = 'owner' DESC NULLS LAST, m.created_at, m.user_id LIMIT 20
$$;

-- Write mails about an incident to these accounts, each with its outbox row; how many. One that stands there already is
-- not written again.
CREATE FUNCTION platform.post_incident_mails(
    organization uuid, incident uuid, about text, due timestamptz, accounts uuid[], notice uuid
) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH written AS (
        INSERT INTO platform.incident_mails (id, tenant_id, incident_id, kind, due_at, account_id, notice_id)
        SELECT gen_random_uuid(), organization, incident, about, due, each, notice FROM unnest(accounts) AS each
        ON CONFLICT ON CONSTRAINT incident_mails_once DO NOTHING
        RETURNING id
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'mail', 'incident', w.id, replace(gen_random_uuid()::text, '-', '') FROM written w
        RETURNING id
    )
    SELECT count(*)::integer FROM sent
$$;

-- A draft to whoever asks for it; false when there is no such incident.
CREATE FUNCTION platform.mail_incident_draft(incident uuid, about text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT app.sealed_holds('{incident.manage}') OR about NOT IN ('draft_authority', 'draft_subjects') THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    END IF;
    IF NOT EXISTS (SELECT FROM app.incidents i WHERE i.tenant_id = app.tenant_id() AND i.id = incident) THEN
        RETURN false;
    END IF;
    PERFORM platform.post_incident_mails(
        app.tenant_id(), incident, about, clock_timestamp(), ARRAY[app.principal_id()], NULL);
    RETURN true;
END
$$;

-- Tell those whom the incident concerns, who are members with a working account and were not told yet, each by a mail of
-- these words; the notice says how many. Null when there is nobody to tell, or no such incident.
CREATE FUNCTION platform.tell_incident_subjects(incident uuid, spoken text) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    notice CONSTANT uuid := gen_random_uuid();
    told uuid[];
BEGIN
    IF NOT app.sealed_holds('{incident.manage}') THEN
        RAISE EXCEPTION 'not for this caller' USING ERRCODE = '42501';
    END IF;
    PERFORM FROM app.incidents i WHERE i.tenant_id = app.tenant_id() AND i.id = incident FOR NO KEY UPDATE;
    WITH due AS (
        UPDATE app.incident_subjects s SET told_at = clock_timestamp(), notice_id = notice
        FROM app.members m JOIN identity.accounts a ON a.id = m.user_id AND a.status = 'active'
        WHERE s.tenant_id = app.tenant_id() AND s.incident_id = incident AND s.told_at IS NULL
            AND m.tenant_id = s.tenant_id AND m.user_id = s.user_id
        RETURNING s.user_id
    )
    SELECT array_agg(d.user_id) INTO told FROM due d;
    IF told IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO app.incident_notices (tenant_id, id, incident_id, recipient, channel, told_at, people, words, recorded_by)
    VALUES (app.tenant_id(), notice, incident, 'subjects', 'mail', clock_timestamp(), cardinality(told), spoken,
            app.principal_id());
    UPDATE app.incidents i SET updated_at = now(), version = i.version + 1
    WHERE i.tenant_id = app.tenant_id() AND i.id = incident;
    PERFORM platform.post_incident_mails(app.tenant_id(), incident, 'told', 'epoch', told, notice);
    RETURN notice;
END
$$;

-- The mail of an outbox row: to whom (nobody: the platform's operator), and what it is about; nothing when its reader is
-- gone, or an alarm has become idle.
CREATE FUNCTION platform.incident_mail(mail uuid)
RETURNS TABLE (kind text, email text, organization text, incident json, words text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.kind, a.email, g.name,
           coalesce(app.incident_json(i), json_build_object(
               'id', p.id, 'title', p.title, 'description', p.description, 'severity', p.severity,
               'detected_at', platform.utc(p.detected_at),
               'notify_by', platform.utc(platform.notify_by(p.detected_at)), 'data_classes', to_json(p.data_classes))),
           n.words
    FROM platform.outbox o
    JOIN platform.incident_mails m ON m.id = o.reference
    LEFT JOIN identity.accounts a ON a.id = m.account_id
    LEFT JOIN app.organizations g ON g.tenant_id = m.tenant_id
    LEFT JOIN app.incidents i ON i.tenant_id = m.tenant_id AND i.id = m.incident_id
    LEFT JOIN platform.incidents p ON p.id = m.incident_id AND m.tenant_id IS NULL
    LEFT JOIN app.incident_notices n ON n.tenant_id = m.tenant_id AND n.id = m.notice_id
    WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL AND app.is_nobody()
        AND (m.account_id IS NULL OR a.status = 'active')
        AND CASE WHEN m.tenant_id IS NULL THEN p.closed_at IS NULL
                 WHEN m.kind IN ('opened', 'told') THEN i.id IS NOT NULL
                 ELSE i.id IS NOT NULL AND EXISTS (SELECT FROM app.members b WHERE b.tenant_id = m.tenant_id
                                                       AND b.user_id = m.account_id)
                     AND (m.kind LIKE 'draft%' OR app.incident_undecided(i)) END
$$;

-- A day before the 72 hours are over, and once they are: a mail to those who may act on it, to the platform's operator
-- about its own. Each is written once: a second run, also at once, finds it. `told` counts the mails.
CREATE FUNCTION platform.remind_of_incidents(to_operator boolean)
RETURNS TABLE (incident_id uuid, kind text, mails integer, of_platform boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH running AS (
        SELECT i.tenant_id, i.id, platform.notify_by(i.detected_at) AS due_at FROM app.incidents i
        WHERE i.status <> 'closed' AND i.detected_at <= clock_timestamp() - interval '48 hours'
            AND app.incident_undecided(i)
        UNION ALL
        SELECT NULL, p.id, platform.notify_by(p.detected_at) FROM platform.incidents p
        WHERE p.closed_at IS NULL AND p.detected_at <= clock_timestamp() - interval '48 hours'
    ), due AS (
        SELECT r.*, l.kind FROM running r
        CROSS JOIN LATERAL (SELECT CASE WHEN r.due_at <= clock_timestamp() THEN 'overdue' ELSE 'due' END AS kind) l
        WHERE NOT EXISTS (SELECT FROM platform.incident_mails n
                          WHERE n.incident_id = r.id AND n.kind = l.kind AND n.due_at = r.due_at)
    ), written AS (
        INSERT INTO platform.incident_mails (id, tenant_id, incident_id, kind, due_at, account_id)
        SELECT gen_random_uuid(), d.tenant_id, d.id, d.kind, d.due_at, who.user_id
        FROM due d LEFT JOIN LATERAL platform.incident_managers(d.tenant_id) AS who (user_id) ON true
        ON CONFLICT ON CONSTRAINT incident_mails_once DO NOTHING
        RETURNING incident_mails.*
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'mail', 'incident', w.id, replace(gen_random_uuid()::text, '-', '')
        FROM written w WHERE w.account_id IS NOT NULL OR (w.tenant_id IS NULL AND to_operator)
    )
    SELECT w.incident_id, w.kind,
           (count(w.account_id) + count(*) FILTER (WHERE w.tenant_id IS NULL AND to_operator))::integer,
           bool_and(w.tenant_id IS NULL)
    FROM written w GROUP BY w.incident_id, w.kind
$$;

-- The platform's own incident, and whom it concerns: these organizations, or all of them. They are told afterwards, in
-- batches. The same id again changes nothing. How many organizations there are.
CREATE FUNCTION platform.open_incident(
    incident uuid, title text, severity text, detected_at timestamptz, data_classes text[], organizations uuid[],
    description text, noted jsonb, request text
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total integer;
    made boolean;
BEGIN
    IF detected_at > clock_timestamp() THEN
        RAISE EXCEPTION 'an incident was detected in the past' USING ERRCODE = '22023';
    ELSIF EXISTS (SELECT FROM unnest(organizations) o WHERE o = platform.organization_id()
                      OR NOT EXISTS (SELECT FROM app.organizations g WHERE g.tenant_id = o)) THEN
        RAISE EXCEPTION 'an organization is not known' USING ERRCODE = '22023';
    ELSIF open_incident.title !~ '\S' OR length(open_incident.title) > 255 THEN
        RAISE EXCEPTION 'a title has 1 to 255 characters' USING ERRCODE = '22023';
    END IF;
    INSERT INTO platform.incidents (id, title, severity, detected_at, data_classes, description)
    VALUES (incident, open_incident.title, open_incident.severity, open_incident.detected_at,
            coalesce(open_incident.data_classes, '{}'), coalesce(open_incident.description, ''))
    ON CONFLICT (id) DO NOTHING;
    made := FOUND;
    IF made THEN
        INSERT INTO platform.incident_organizations (incident_id, tenant_id)
        SELECT incident, g.tenant_id FROM app.organizations g
        WHERE g.tenant_id <> platform.organization_id()
            AND (organizations IS NULL OR g.tenant_id = ANY (organizations));
    END IF;
    SELECT count(*) INTO total FROM platform.incident_organizations o WHERE o.incident_id = incident;
    IF made THEN
        PERFORM platform.record_event(
            NULL, 'incident.opened', 'incident', incident::text,
            coalesce(noted, '{}') || jsonb_build_object('severity', severity, 'organizations', total), request);
    END IF;
    RETURN total;
END
$$;

-- Tell up to `most` organizations that were not told: a record of their own, whose 72 hours begin now (the controller is
-- aware once its processor has told it: EDPB Guidelines 9/2022, 44), an event in their chain, a mail to their managers.
CREATE FUNCTION platform.fan_out_incident(incident uuid, most integer, request text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.incidents;
    place uuid;
    opened uuid;
    told integer;
    total integer := 0;
BEGIN
    SELECT * INTO known FROM platform.incidents p WHERE p.id = incident;
    FOR place IN
        SELECT o.tenant_id FROM platform.incident_organizations o
        WHERE o.incident_id = incident AND o.opened_at IS NULL ORDER BY o.tenant_id LIMIT most FOR UPDATE SKIP LOCKED
    LOOP
        total := total + 1;
        told := 0;
        PERFORM FROM app.organizations g WHERE g.tenant_id = place FOR KEY SHARE;
        IF FOUND AND platform.takes_events(place) THEN -- else it is erased by now, or being erased
            INSERT INTO app.incidents AS i (
                tenant_id, title, description, severity, detected_at, first_detected_at, data_classes,
                platform_incident_id, platform_detected_at)
            VALUES (place, known.title, known.description, known.severity, clock_timestamp(), clock_timestamp(),
                    known.data_classes, known.id, known.detected_at)
            RETURNING i.id INTO opened;
            BEGIN
                PERFORM platform.record_event(
                    place, 'incident.opened', 'incident', opened::text,
                    jsonb_build_object('severity', known.severity, 'platform_incident_id', known.id), request);
            EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: the more reason to tell
                RAISE WARNING 'the audit chain of organization % takes no event', place;
            END;
            told := platform.post_incident_mails(
                place, opened, 'opened', 'epoch', ARRAY(SELECT platform.incident_managers(place)), NULL);
        END IF;
        UPDATE platform.incident_organizations o SET opened_at = clock_timestamp(), mails = told
        WHERE o.incident_id = incident AND o.tenant_id = place;
    END LOOP;
    RETURN total;
END
$$;

-- What a command that died has left to tell, the oldest incident first: how many organizations were told now.
CREATE FUNCTION platform.continue_incidents(most integer, request text) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT platform.fan_out_incident(w.id, most, request) FROM (
        SELECT p.id FROM platform.incidents p
        WHERE EXISTS (SELECT FROM platform.incident_organizations o WHERE o.incident_id = p.id AND o.opened_at IS NULL)
        ORDER BY p.created_at, p.id LIMIT 1) w), 0)
$$;

-- The organizations in whose chains something succeeded in a time range, by an actor or from a network if given.
CREATE FUNCTION platform.affected_organizations(since timestamptz, until timestamptz, actor uuid, network text)
RETURNS TABLE (tenant_id uuid, events bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.tenant_id, c.n FROM app.organizations g
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM app.audit_events e
        WHERE e.tenant_id = g.tenant_id AND e.at BETWEEN since AND until AND e.outcome = 'success'
            AND (actor IS NULL OR e.actor_id = actor
                 OR EXISTS (SELECT FROM app.api_key_makers k
                            WHERE k.tenant_id = g.tenant_id AND k.key_id = e.actor_id AND k.user_id = actor))
            AND (network IS NULL OR CASE WHEN pg_input_is_valid(e.personal ->> 'ip', 'inet')
                                         THEN (e.personal ->> 'ip')::inet <<= network::inet END)) c
    WHERE g.tenant_id <> platform.organization_id() AND c.n > 0
    ORDER BY g.tenant_id
$$;

CREATE FUNCTION platform.list_incidents(most integer)
RETURNS TABLE (id uuid, title text, severity text, status text, detected_at timestamptz, notify_by timestamptz,
               organizations integer, opened integer, untold integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.id, p.title, p.severity, CASE WHEN p.closed_at IS NULL THEN 'open' ELSE 'closed' END, p.detected_at,
           platform.notify_by(p.detected_at), count(o.tenant_id)::integer, count(o.opened_at)::integer,
           (count(*) FILTER (WHERE o.opened_at IS NOT NULL AND o.mails = 0))::integer
    FROM platform.incidents p LEFT JOIN platform.incident_organizations o ON o.incident_id = p.id
    GROUP BY p.id ORDER BY p.created_at DESC, p.id DESC LIMIT most
$$;

-- closed, unchanged (it is), unknown; incomplete: neither was the authority notified nor is there a reason why not, a late
-- notice lacks its reason, or organizations wait to be told.
CREATE FUNCTION platform.close_incident(
    incident uuid, notified_at timestamptz, reason text, noted jsonb, request text
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.incidents;
    why CONSTANT text := nullif(btrim(close_incident.reason), '');
BEGIN
    SELECT * INTO known FROM platform.incidents p WHERE p.id = incident FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF known.closed_at IS NOT NULL THEN
        RETURN 'unchanged';
    ELSIF why IS NULL AND (close_incident.notified_at IS NULL
                           OR close_incident.notified_at > platform.notify_by(known.detected_at))
        OR close_incident.notified_at > clock_timestamp()
        OR EXISTS (SELECT FROM platform.incident_organizations o
                   WHERE o.incident_id = incident AND o.opened_at IS NULL)
    THEN
        RETURN 'incomplete';
    END IF;
    UPDATE platform.incidents p SET closed_at = clock_timestamp(), notified_at = close_incident.notified_at, reason = why
    WHERE p.id = incident;
    PERFORM platform.record_event(
        NULL, 'incident.closed', 'incident', incident::text,
        coalesce(noted, '{}') || jsonb_build_object('notified', close_incident.notified_at IS NOT NULL), request);
    RETURN 'closed';
END
$$;

CREATE FUNCTION platform.export_incident_mails() RETURNS SETOF json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_to_json(r) FROM (
        SELECT n.id, n.tenant_id, n.incident_id, n.kind, n.account_id, platform.utc(n.created_at) AS created_at
        FROM platform.incident_mails n WHERE n.account_id = platform.export_subject() ORDER BY n.created_at, n.id) r
$$;

GRANT EXECUTE ON FUNCTION platform.notify_by(timestamptz), app.incident_undecided(app.incidents),
    app.incident_lacks(app.incidents), app.incident_notice_json(app.incident_notices),
    app.incident_json(app.incidents) TO context_definer, audit_fn;
GRANT EXECUTE ON FUNCTION platform.utc(timestamptz) TO audit_fn;
GRANT EXECUTE ON FUNCTION platform.people_text(jsonb, text) TO context_definer;
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'app.incident_events(timestamptz, timestamptz, uuid, inet)',
        'app.incident_facts(timestamptz, timestamptz, uuid, inet)',
        'app.incident_people(timestamptz, timestamptz, uuid, inet)',
        'app.keep_scope(uuid, timestamptz, timestamptz, uuid, inet, bigint, text[])',
        'platform.incident_managers(uuid)',
        'platform.post_incident_mails(uuid, uuid, text, timestamptz, uuid[], uuid)',
        'platform.mail_incident_draft(uuid, text)', 'platform.tell_incident_subjects(uuid, text)',
        'platform.incident_mail(uuid)', 'platform.remind_of_incidents(boolean)',
        'platform.open_incident(uuid, text, text, timestamptz, text[], uuid[], text, jsonb, text)',
        'platform.fan_out_incident(uuid, integer, text)', 'platform.continue_incidents(integer, text)',
        'platform.affected_organizations(timestamptz, timestamptz, uuid, text)', 'platform.list_incidents(integer)',
        'platform.close_incident(uuid, timestamptz, text, jsonb, text)', 'platform.export_incident_mails()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.sealed_holds(text[]) TO audit_fn;
GRANT EXECUTE ON FUNCTION app.incident_facts(timestamptz, timestamptz, uuid, inet),
    app.incident_people(timestamptz, timestamptz, uuid, inet),
    app.keep_scope(uuid, timestamptz, timestamptz, uuid, inet, bigint, text[]),
    platform.mail_incident_draft(uuid, text), platform.tell_incident_subjects(uuid, text) TO audit_fn;
GRANT EXECUTE ON FUNCTION platform.remind_of_incidents(boolean), platform.continue_incidents(integer, text)
    TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.incident_mail(uuid) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.export_incident_mails() TO exports_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.open_incident(uuid, text, text, timestamptz, text[], uuid[], text, jsonb, text),
    platform.fan_out_incident(uuid, integer, text),
    platform.affected_organizations(timestamptz, timestamptz, uuid, text), platform.list_incidents(integer),
    platform.close_incident(uuid, timestamptz, text, jsonb, text) TO context_owner;
SET LOCAL ROLE context_owner;
