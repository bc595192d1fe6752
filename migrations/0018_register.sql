-- Erasure and retention from one register: its rules in the database, legal holds, and requests of every scope.
-- Nothing of what is dropped or narrowed here has been released, and the tables are small:
-- squawk-ignore-file ban-drop-not-null, constraint-missing-not-valid, require-concurrent-index-deletion, ban-drop-constraint, ban-drop-function

-- common/register.yaml, compiled by common/register_rules.py and loaded after every migration. The functions below
-- build their SQL from it; `position` is the order of erasure, rows that hang on others first.
CREATE TABLE platform.register (
    name text PRIMARY KEY,
    position integer NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED,
    rules jsonb NOT NULL
);
ALTER TABLE platform.register ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.register FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.register FOR SELECT TO context_definer USING (true);
CREATE POLICY loader ON platform.register TO context_owner
    USING (current_user = 'context_owner') WITH CHECK (current_user = 'context_owner');
GRANT SELECT ON platform.register TO context_definer;

-- A request may be about a person everywhere (me), a person in one organization (user), or an organization. A child
-- does its parent's part in one organization; a follow-up erases what a legal hold kept, or a restored backup brought.
ALTER TABLE platform.deletions ALTER COLUMN subject_id DROP NOT NULL;
ALTER TABLE platform.deletions
    ADD COLUMN requested_by uuid,
    ADD COLUMN tenant_id uuid,
    ADD COLUMN parent_id uuid,
    ADD COLUMN follows uuid,
    ADD COLUMN channel text NOT NULL DEFAULT 'api',
    ADD COLUMN policy text,
    ADD COLUMN approval_needed boolean NOT NULL DEFAULT false,
    ADD COLUMN approved_at timestamptz,
    ADD COLUMN approved_by uuid,
    ADD COLUMN refused_reason text,
    ADD COLUMN extended_at timestamptz,
    ADD COLUMN extension_reason text,
    ADD COLUMN ledger_at timestamptz,
    ADD COLUMN phones_to_find text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT deletions_channel_check
        CHECK (channel IN ('api', 'letter', 'child', 'hold_end', 'replay')),
    ADD CONSTRAINT deletions_policy_check CHECK (policy IN ('keep_pseudonymous', 'erase')),
    ADD CONSTRAINT deletions_about CHECK (
        CASE scope WHEN 'me' THEN subject_id IS NOT NULL AND tenant_id IS NULL
                   WHEN 'user' THEN subject_id IS NOT NULL AND tenant_id IS NOT NULL
                   ELSE tenant_id IS NOT NULL END);
ALTER TABLE platform.deletions ALTER COLUMN refused_reason SET STATISTICS 0;
ALTER TABLE platform.deletions ALTER COLUMN extension_reason SET STATISTICS 0;
ALTER TABLE platform.deletions ALTER COLUMN phones_to_find SET STATISTICS 0;
DROP INDEX platform.deletions_one_open;
CREATE UNIQUE INDEX deletions_one_open ON platform.deletions
    (coalesce(subject_id, tenant_id), coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'))
    WHERE finished_at IS NULL;
CREATE INDEX deletions_of_organization ON platform.deletions (tenant_id, received_at DESC, job_id DESC)
    WHERE tenant_id IS NOT NULL;
CREATE INDEX deletions_by_parent ON platform.deletions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX deletions_by_end ON platform.deletions (finished_at);

-- `keep` and `erase` are an organization's policies, `whole` is the organization itself.
ALTER TABLE platform.deletion_organizations
    DROP CONSTRAINT deletion_organizations_mode_check,
    ADD CONSTRAINT deletion_organizations_mode_check CHECK (mode IN ('keep', 'erase', 'whole')),
    ADD COLUMN left_at timestamptz,
    ADD COLUMN counted_at timestamptz,
    ADD COLUMN personal_after jsonb NOT NULL DEFAULT '{}'; -- how far app.erase_personal is, by subject of the table

-- What must be kept although erasure was asked for (Art. 17(3)(e) GDPR): everything about a person in the organization,
-- or the named rows; in force until its end or its release.
CREATE TABLE app.legal_holds (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    subject_user_id uuid NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    until timestamptz NOT NULL CHECK (isfinite(until)),
    resources jsonb CHECK (jsonb_typeof(resources) = 'array'),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX legal_holds_by_subject ON app.legal_holds (tenant_id, subject_user_id);
CREATE INDEX legal_holds_of_person ON app.legal_holds (subject_user_id) WHERE released_at IS NULL;
CREATE INDEX legal_holds_newest ON app.legal_holds (tenant_id, created_at DESC, id DESC);
CREATE INDEX legal_holds_by_maker ON app.legal_holds (tenant_id, created_by);
CREATE INDEX legal_holds_by_end ON app.legal_holds (until);
ALTER TABLE app.legal_holds ALTER COLUMN reason SET STATISTICS 0;

-- An invoice outlives its organization; whom it was billed to does not.
ALTER TABLE app.invoices ALTER COLUMN billed_to DROP NOT NULL;

-- Who made an API key, for as long as the audit chain may name the key: the key itself goes sooner.
CREATE TABLE app.api_key_makers (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    key_id uuid NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);
CREATE INDEX api_key_makers_by_user ON app.api_key_makers (tenant_id, user_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['legal_holds', 'api_key_makers'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON app.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON app.%I TO context_definer', name);
    END LOOP;
END
$$;

ALTER TABLE app.audit_events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE app.api_keys NO FORCE ROW LEVEL SECURITY;
ALTER TABLE app.api_key_makers NO FORCE ROW LEVEL SECURITY;
INSERT INTO app.api_key_makers (tenant_id, key_id, user_id)
SELECT e.tenant_id, e.resource_id::uuid, e.actor_id FROM app.audit_events e
WHERE e.action = 'api_key.created' AND e.outcome = 'success' AND e.actor_id IS NOT NULL
    AND e.resource_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
UNION
SELECT k.tenant_id, k.id, k.created_by FROM app.api_keys k
ON CONFLICT DO NOTHING;
ALTER TABLE app.api_key_makers FORCE ROW LEVEL SECURITY;
ALTER TABLE app.api_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE app.audit_events FORCE ROW LEVEL SECURITY;

CREATE FUNCTION app.note_key_maker() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO app.api_key_makers (tenant_id, key_id, user_id) VALUES (NEW.tenant_id, NEW.id, NEW.created_by)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
ALTER FUNCTION app.note_key_maker() OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.note_key_maker() TO context_owner;
SET LOCAL ROLE context_owner;
CREATE TRIGGER keys_have_makers AFTER INSERT ON app.api_keys FOR EACH ROW EXECUTE FUNCTION app.note_key_maker();

-- Neither a person's rows nor those whose period is over are searched for.
CREATE INDEX outbox_by_reference ON platform.outbox (reference);
CREATE INDEX outbox_by_end ON platform.outbox (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX exports_by_end ON platform.exports (removed_at) WHERE removed_at IS NOT NULL;
CREATE INDEX login_sessions_by_expiry ON identity.login_sessions (expires_at);
CREATE INDEX registrations_by_expiry ON identity.registrations (expires_at);
CREATE INDEX audit_events_of_nobody ON app.audit_events (tenant_id, resource_id, seq) WHERE actor_id IS NULL;
-- What is left to do of a person's events is found without reading what is done.
CREATE INDEX audit_events_personal_of_actor ON app.audit_events (tenant_id, actor_id, seq) WHERE personal IS NOT NULL;

SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION app.keys_made_by(person uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.key_id FROM app.api_key_makers m WHERE m.tenant_id = app.tenant_id() AND m.user_id = person
$$;
SET LOCAL ROLE context_owner;

-- The request whose running job the seal names; of a child, its own row.
CREATE FUNCTION platform.sealed_deletion() RETURNS SETOF platform.deletions
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.* FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id
    WHERE d.job_id = app.principal_id() AND app.sealed(1) = 's' AND j.status = 'running'
$$;

-- One erasure as the texts below see it, always their parameter $1: the mode (keep, erase, whole; account: the
-- platform's own rows; retire: none), the sealed organization, the person and her address, whether a legal hold is in
-- force, and whether rows are only counted.
CREATE TYPE platform.erasure_case AS (
    mode text, tenant uuid, person uuid, address text, holds boolean, counting boolean);

-- The chain of an organization's audit events is append-only: erasure empties `personal` by app.erase_personal, which
-- records it, and the end of its period is no matter of single rows.
CREATE FUNCTION platform.is_chain(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN name = 'app.audit_events';

-- `schema.relation alias`, from the rules of a table.
CREATE FUNCTION platform.place_text(rules jsonb, alias text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('%I.%I %I', rules ->> 'schema', rules ->> 'relation', alias);

-- The condition that joins a row to the one that a reference (an entry of `parents`) points to.
CREATE FUNCTION platform.join_text(link jsonb, child text, parent text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('%I.%I = %I.%I', child, link -> 'columns' ->> i, parent, link -> 'parent_columns' ->> i),
                      ' AND ' ORDER BY i)
    FROM generate_series(0, jsonb_array_length(link -> 'columns') - 1) AS i
$$;

-- The condition that a row is about the person, by one of its table's subjects. What refers to rows of an organization
-- goes with the organization's rows; a plan of the platform's own rows leaves it to the plans of her organizations.
CREATE FUNCTION platform.match_text(alias text, subject jsonb, c platform.erasure_case) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text := format('%I.%I', alias, subject ->> 'column');
    found text;
BEGIN
    CASE subject ->> 'match'
        WHEN 'account' THEN found := place || ' = ($1).person';
        WHEN 'text' THEN found := place || ' = ($1).person::text';
        WHEN 'email' THEN found := place || ' = ($1).address';
        WHEN 'mention' THEN found := format('strpos(lower(%s), lower(($1).address)) > 0', place);
        WHEN 'key' THEN
            found := format('%s = ANY (ARRAY(SELECT k.key_id FROM app.api_key_makers k'
                            ' WHERE k.tenant_id = ($1).tenant AND k.user_id = ($1).person))', place);
        WHEN 'row' THEN
            SELECT format('%s = ANY (ARRAY(%s))', place, string_agg(
                       format('SELECT o.id FROM %s WHERE %s%s', platform.place_text(g.rules, 'o'),
                              CASE WHEN c.mode = 'whole' THEN 'true' ELSE platform.match_text('o', other, c) END,
                              CASE WHEN NOT (g.rules -> 'of_tenant')::boolean THEN ''
                                   WHEN c.mode <> 'account' THEN ' AND o.tenant_id = ($1).tenant'
                                   WHEN c.counting THEN ' AND ' || platform.elsewhere_text('o') ELSE '' END),
                       ' UNION ALL '))
            INTO found
            FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'subjects') AS other
            WHERE subject -> 'of' ? g.name AND other ->> 'match' IN ('account', 'email')
                AND CASE WHEN (g.rules -> 'of_tenant')::boolean THEN other ->> 'match' = 'email'
                     ELSE c.mode = 'account' END;
            found := coalesce(found, 'false');
    END CASE;
    IF subject ->> 'without' IS NOT NULL THEN
        found := format('%s AND %I.%I IS NULL', found, alias, subject ->> 'without');
    END IF;
    RETURN '(' || found || ')';
END
$$;

-- The condition that an organization's row is of one that the person does not belong to.
CREATE FUNCTION platform.elsewhere_text(alias text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('%I.tenant_id NOT IN (SELECT m.tenant_id FROM app.members m WHERE m.user_id = ($1).person)', alias);

-- The conditions of those subjects of a table to which the mode does `done`. In organizations that the job has not
-- entered (mode account) only the address leads to the person.
CREATE FUNCTION platform.own_texts(rules jsonb, alias text, c platform.erasure_case, done text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(platform.match_text(alias, s, c)), '{}')
    FROM jsonb_array_elements(rules -> 'subjects') AS s
    WHERE done = CASE c.mode WHEN 'erase' THEN s ->> 'policy_erase' ELSE s ->> 'erase' END
        AND CASE WHEN c.mode = 'retire' THEN false
                 WHEN (rules -> 'of_tenant')::boolean THEN
                     c.mode IN ('keep', 'erase') OR (c.mode = 'account' AND s ->> 'match' IN ('email', 'mention'))
                 ELSE c.mode = 'account' OR s ->> 'match' = 'row' END
$$;

-- The rows that a mode may look at: those of the sealed organization; an address is looked for in every organization
-- that has invited it or that the job may enter.
CREATE FUNCTION platform.scope_text(rules jsonb, alias text, c platform.erasure_case) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known text;
BEGIN
    IF NOT (rules -> 'of_tenant')::boolean OR c.mode = 'retire' THEN
        RETURN 'true';
    ELSIF c.mode <> 'account' THEN
        RETURN format('%I.tenant_id = ($1).tenant', alias);
    ELSIF NOT rules -> 'subjects' @> '[{"match": "mention"}]' THEN
        RETURN 'true';
    END IF;
    SELECT string_agg(format('SELECT o.tenant_id FROM %s WHERE %s', platform.place_text(g.rules, 'o'),
                             platform.match_text('o', s, c)), ' UNION ')
    INTO known
    FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'subjects') AS s
    WHERE (g.rules -> 'of_tenant')::boolean AND s ->> 'match' = 'email';
    RETURN format('%I.tenant_id IN (%s)', alias, concat_ws(' UNION ', known,
        'SELECT j.tenant_id FROM platform.job_tenants j WHERE j.job_id = (SELECT app.principal_id())'));
END
$$;

-- The condition that a legal hold keeps a row for itself, not for another row's sake; NULL where none can.
CREATE FUNCTION platform.held_text(name text, rules jsonb, alias text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    people text;
    reasons text[] := '{}';
BEGIN
    IF name = 'identity.accounts' THEN
        RETURN format('EXISTS (SELECT FROM app.legal_holds h WHERE h.subject_user_id = %I.id'
                      ' AND h.released_at IS NULL AND h.until > now())', alias);
    ELSIF NOT (rules -> 'of_tenant')::boolean THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(concat_ws(' AND ', CASE s ->> 'match'
               WHEN 'account' THEN format('h.subject_user_id = %I.%I', alias, s ->> 'column')
               WHEN 'text' THEN format('h.subject_user_id::text = %I.%I', alias, s ->> 'column')
               WHEN 'email' THEN format('%I.%I = (SELECT a.email FROM identity.accounts a'
                                        ' WHERE a.id = h.subject_user_id)', alias, s ->> 'column')
               WHEN 'key' THEN format('EXISTS (SELECT FROM app.api_key_makers k WHERE k.tenant_id = h.tenant_id'
                                      ' AND k.key_id = %I.%I AND k.user_id = h.subject_user_id)', alias, s ->> 'column')
               ELSE 'false' END,
               CASE WHEN s ->> 'without' IS NOT NULL THEN format('%I.%I IS NULL', alias, s ->> 'without') END), ' OR ')
    INTO people FROM jsonb_array_elements(rules -> 'subjects') AS s;
    IF people IS NOT NULL THEN
        reasons := reasons || format('h.resources IS NULL AND (%s)', people);
    END IF;
    IF rules ->> 'resource' IS NOT NULL THEN
        reasons := reasons || format(
            'h.resources @> jsonb_build_array(jsonb_build_object(''type'', %L, ''id'', %I.id))',
            rules ->> 'resource', alias);
    END IF;
    IF name = 'app.members' THEN -- who is held, for whatever, stays known
        reasons := reasons || format('h.subject_user_id = %I.user_id', alias);
    ELSIF name = 'app.legal_holds' THEN
        reasons := reasons || format('h.id = %I.id', alias);
    END IF;
    IF reasons = '{}' THEN
        RETURN NULL;
    END IF;
    RETURN format('EXISTS (SELECT FROM app.legal_holds h WHERE h.tenant_id = %I.tenant_id AND h.released_at IS NULL'
                  ' AND h.until > now() AND (%s))', alias, array_to_string(reasons, ' OR '));
END
$$;

-- The condition that a row may not be deleted: it is held, or a row that stays hangs on it. NULL: nothing can keep it.
-- `path` are the tables on the way here; each may stand in it twice, so that texts end.
CREATE FUNCTION platform.stays_text(name text, alias text, c platform.erasure_case, path text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own jsonb;
    child record;
    inner_alias text := 'x' || cardinality(path) + 1;
    part text;
    parts text[] := '{}';
BEGIN
    SELECT g.rules INTO STRICT own FROM platform.register g WHERE g.name = stays_text.name;
    IF c.holds THEN
        parts := array_remove(ARRAY[platform.held_text(name, own, alias)], NULL);
    END IF;
    FOR child IN
        SELECT g.name, g.rules, link
        FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'parents') AS link
        WHERE link ->> 'table' = stays_text.name AND g.name <> stays_text.name
            AND coalesce(cardinality(array_positions(path, g.name)), 0) < 2
        ORDER BY g.position
    LOOP
        IF child.link ->> 'rule' = 'keep_parent' THEN
            part := platform.doomed_text(child.name, inner_alias, c, path || name);
            CONTINUE WHEN part = 'true';
            part := CASE WHEN part IS NULL THEN 'true' ELSE format('(%s) IS NOT TRUE', part) END;
        ELSE
            CONTINUE WHEN NOT c.holds;
            part := platform.stays_text(child.name, inner_alias, c, path || name);
            CONTINUE WHEN part IS NULL;
        END IF;
        parts := parts || format('EXISTS (SELECT FROM %s WHERE %s AND (%s))',
                                 platform.place_text(child.rules, inner_alias),
                                 platform.join_text(child.link, inner_alias, alias), part);
    END LOOP;
    RETURN nullif(array_to_string(parts, ' OR '), '');
END
$$;

-- The condition that the mode deletes a row: it is about the person and the register says so, or it goes with its
-- parent. NULL: never, 'true': always.
CREATE FUNCTION platform.doomed_text(name text, alias text, c platform.erasure_case, path text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own jsonb;
    parts text[];
    stay text;
BEGIN
    SELECT g.rules INTO STRICT own FROM platform.register g WHERE g.name = doomed_text.name;
    IF c.mode = 'retire' OR (c.mode = 'whole' AND own ->> 'whole' = 'keep') THEN
        RETURN NULL;
    ELSIF c.mode = 'whole' AND (own -> 'of_tenant')::boolean THEN
        parts := ARRAY['true'];
    ELSE
        parts := platform.own_texts(own, alias, c, 'delete_row') || array(
            SELECT format('EXISTS (SELECT FROM %s WHERE %s AND %s)', s.source, s.joined, s.condition)
            FROM platform.doomed_parents(name, alias, c, path, 'with_parent') s);
    END IF;
    IF parts = '{}' THEN
        RETURN NULL;
    END IF;
    stay := platform.stays_text(name, alias, c, path);
    IF stay IS NULL THEN
        RETURN array_to_string(parts, ' OR ');
    END IF;
    RETURN format('((%s) AND (%s) IS NOT TRUE)', array_to_string(parts, ' OR '), stay);
END
$$;

-- The parents with which a row of the table goes, or loses its reference (`rule`): table and alias, the join, and the
-- condition that the parent goes.
CREATE FUNCTION platform.doomed_parents(name text, alias text, c platform.erasure_case, path text[], rule text)
RETURNS TABLE (source text, joined text, condition text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent record;
    inner_alias text := 'x' || cardinality(path) + 1;
BEGIN
    FOR parent IN
        SELECT p.name, p.rules, link
        FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'parents') AS link
        JOIN platform.register p ON p.name = link ->> 'table'
        WHERE g.name = doomed_parents.name AND link ->> 'rule' = doomed_parents.rule
            AND (rule = 'null' OR p.name <> g.name)
            AND coalesce(cardinality(array_positions(path, p.name)), 0) < 2
    LOOP
        source := platform.place_text(parent.rules, inner_alias);
        joined := platform.join_text(parent.link, alias, inner_alias);
        condition := '(' || platform.doomed_text(parent.name, inner_alias, c, path || name) || ')';
        IF condition IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

-- The case of the sealed organization; of the platform's own rows when no mode of an organization is given.
CREATE FUNCTION platform.case_of(person uuid, mode text) RETURNS platform.erasure_case
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT mode, CASE WHEN mode <> 'account' THEN app.tenant_id() END, person,
           coalesce((SELECT coalesce(d.mail_to, p.mail_to) FROM platform.sealed_deletion() d
                     LEFT JOIN platform.deletions p ON p.job_id = d.parent_id WHERE d.subject_id = person),
                    (SELECT a.email FROM identity.accounts a WHERE a.id = person)),
           EXISTS (SELECT FROM app.legal_holds h
                   WHERE h.released_at IS NULL AND h.until > now()
                       AND (mode = 'account' OR h.tenant_id = app.tenant_id())),
           false
$$;

-- Whether a mode looks at a table. Requests for erasure are proof of themselves: they empty themselves at their end.
CREATE FUNCTION platform.concerns(name text, rules jsonb, mode text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN name <> 'platform.deletions' AND CASE
    WHEN mode <> 'account' THEN (rules -> 'of_tenant')::boolean OR rules -> 'subjects' @> '[{"match": "row"}]'
    ELSE NOT (rules -> 'of_tenant')::boolean OR rules -> 'subjects' @> '[{"match": "email"}]'
        OR rules -> 'subjects' @> '[{"match": "mention"}]' END;

-- What the case does to how many rows; action `held`: what it would do to, but for a legal hold.
CREATE FUNCTION platform.case_counts(c platform.erasure_case)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unheld platform.erasure_case;
    g record;
    gone text;
    all_gone text;
    held text;
    emptied text;
    stay text;
    nulled text;
    kept text;
BEGIN
    c.counting := true;
    unheld := c;
    unheld.holds := false;
    FOR g IN SELECT r.name, r.rules FROM platform.register r
             WHERE platform.concerns(r.name, r.rules, c.mode) ORDER BY r.position
    LOOP
        gone := coalesce(platform.doomed_text(g.name, 't', c, '{}'), 'false');
        all_gone := coalesce(platform.doomed_text(g.name, 't', unheld, '{}'), 'false');
        held := coalesce(CASE WHEN c.holds THEN platform.held_text(g.name, g.rules, 't') END, 'false');
        nulled := platform.any_text(platform.own_texts(g.rules, 't', c, 'null') || array(
            SELECT format('EXISTS (SELECT FROM %s WHERE %s AND %s)', u.source, u.joined, u.condition)
            FROM platform.doomed_parents(g.name, 't', c, '{}', 'null') u));
        stay := platform.any_text(platform.own_texts(g.rules, 't', c, 'pseudonym')
                                  || platform.own_texts(g.rules, 't', c, 'delete_row'));
        kept := platform.any_text(platform.own_texts(g.rules, 't', c, 'keep'));
        IF c.mode = 'whole' AND g.rules ->> 'whole' = 'keep' THEN
            kept := 'true';
        END IF;
        emptied := platform.emptied_text(g.rules, 't');
        CONTINUE WHEN (gone, nulled, stay, kept) = ('false', 'false', 'false', 'false') AND all_gone = 'false';
        RETURN QUERY EXECUTE format($query$
            SELECT %9$L, f.action, f.row_count FROM (
                SELECT count(*) FILTER (WHERE r.gone) AS gone,
                       count(*) FILTER (WHERE NOT r.gone AND (r.nulled OR r.emptied) AND NOT r.held) AS nulled,
                       count(*) FILTER (WHERE r.stay AND NOT r.all_gone) AS stay,
                       count(*) FILTER (WHERE r.kept AND NOT r.stay AND NOT r.all_gone) AS kept,
                       count(*) FILTER (WHERE NOT r.gone
                                            AND (r.all_gone OR (r.held AND (r.nulled OR r.emptied)))) AS held
                FROM (SELECT (%2$s) IS TRUE AS gone, (%3$s) IS TRUE AS all_gone, (%4$s) IS TRUE AS held,
                             (%5$s) IS TRUE AS nulled, (((%6$s) OR (%7$s)) AND (%8$s)) IS TRUE AS emptied,
                             (%6$s) IS TRUE AS stay, (%7$s) IS TRUE AS kept
                      FROM %1$s WHERE %10$s AND ((%3$s) OR (%5$s) OR (%6$s) OR (%7$s)) OFFSET 0) r) s
            CROSS JOIN LATERAL (VALUES ('delete', s.gone), ('null', s.nulled), ('pseudonym', s.stay), ('keep', s.kept),
                                       ('held', s.held)) AS f (action, row_count)
            WHERE f.row_count > 0
            $query$, platform.place_text(g.rules, 't'), gone, all_gone, held, nulled, stay, kept, emptied, g.name,
            concat_ws(' AND ', platform.scope_text(g.rules, 't', c),
                CASE WHEN c.mode = 'account' AND (g.rules -> 'of_tenant')::boolean THEN -- those count for themselves
                         platform.elsewhere_text('t') END))
        USING c;
    END LOOP;
END
$$;

-- Conditions as one; 'false' when there are none.
CREATE FUNCTION platform.any_text(conditions text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN coalesce(nullif(array_to_string(conditions, ' OR '), ''), 'false');

-- The condition that a row which stays has something in the columns that erasure empties.
CREATE FUNCTION platform.emptied_text(rules jsonb, alias text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%I.%I IS NOT NULL', alias, name), ' OR '), 'false')
    FROM jsonb_array_elements_text(rules -> 'nulls') AS name
$$;

-- One batch: `rows` selects row addresses, without a lock however long that takes; then they are locked, `act` is done
-- to those for which `still` holds, by now, and they are counted as `done`. 0 when there was none to select.
-- Index scans only: behind a LIMIT the planner would else read again what earlier batches have left dead.
CREATE FUNCTION platform.run_batch(
    c platform.erasure_case, name text, rules jsonb, rows text, act text, still text, done text, most bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chosen tid[];
    touched bigint;
BEGIN
    PERFORM set_config('enable_seqscan', 'off', true);
    EXECUTE format('SELECT ARRAY(%s LIMIT $2)', rows) INTO chosen USING c, most;
    PERFORM set_config('enable_seqscan', 'on', true);
    IF chosen = '{}' THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT FROM %s WHERE t.ctid = ANY ($1) FOR UPDATE', platform.place_text(rules, 't')) USING chosen;
    EXECUTE format('%s WHERE d.ctid = ANY ($2) AND (%s)', act, still) USING c, chosen;
    GET DIAGNOSTICS touched = ROW_COUNT;
    PERFORM platform.count_erased(name, done, touched) WHERE done IS NOT NULL;
    RETURN cardinality(chosen);
END
$$;

-- The condition that no other row of the same table hangs on a row: of a tree the leaves go first.
CREATE FUNCTION platform.leaf_text(name text, rules jsonb, alias text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format(' AND NOT EXISTS (SELECT FROM %s WHERE %s)', platform.place_text(rules, 'leaf'),
                                      platform.join_text(l, 'leaf', alias)), ''), '')
    FROM jsonb_array_elements(rules -> 'parents') AS l WHERE l ->> 'table' = name AND l ->> 'rule' <> 'null'
$$;

-- Delete up to `most` rows of one table that the case deletes.
CREATE FUNCTION platform.delete_of(c platform.erasure_case, name text, rules jsonb, most bigint) RETURNS bigint
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
            c, name, rules,
            format('SELECT t.ctid FROM %s AND %s AND %s', source, platform.scope_text(rules, 't', c), goes),
            'DELETE FROM ' || platform.place_text(rules, 'd'), still, 'delete', most);
        EXIT WHEN erased > 0;
    END LOOP;
    RETURN erased;
END
$$;

-- Why columns of a row are emptied: they name the person, they point to a row that goes, or the register empties them
-- in rows that stay (those of the audit chain by app.erase_personal). `source` selects such rows as `t`.
CREATE FUNCTION platform.null_causes(c platform.erasure_case, name text, rules jsonb, alias text)
RETURNS TABLE (columns text[], condition text, source text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place CONSTANT text := platform.place_text(rules, 't');
    free CONSTANT text := coalesce(' AND (' || CASE WHEN c.holds THEN platform.held_text(name, rules, alias) END
                                   || ') IS NOT TRUE', '');
    link record;
    going text;
BEGIN
    FOR link IN SELECT l, p.name, p.rules FROM jsonb_array_elements(rules -> 'parents') AS l
                JOIN platform.register p ON p.name = l ->> 'table' WHERE l ->> 'rule' = 'null'
    LOOP
        going := platform.doomed_text(link.name, 'p', c, '{}');
        CONTINUE WHEN going IS NULL;
        RETURN QUERY SELECT
            array(SELECT jsonb_array_elements_text(link.l -> 'nulled')),
            format('EXISTS (SELECT FROM %s WHERE %s AND (%s))', platform.place_text(link.rules, 'p'),
                   platform.join_text(link.l, alias, 'p'), going),
            format('%s JOIN %s ON %s WHERE (%s)', platform.place_text(link.rules, 'p'), place,
                   platform.join_text(link.l, 't', 'p'), going);
    END LOOP;
    RETURN QUERY
    SELECT ARRAY[s ->> 'column'], platform.match_text(alias, s, c) || free,
           format('%s WHERE %s', place, platform.match_text('t', s, c) || free)
    FROM jsonb_array_elements(rules -> 'subjects') AS s
    WHERE 'null' = CASE c.mode WHEN 'erase' THEN s ->> 'policy_erase' ELSE s ->> 'erase' END
        AND platform.match_text(alias, s, c) = ANY (platform.own_texts(rules, alias, c, 'null'));
    IF rules -> 'nulls' <> '[]' AND NOT platform.is_chain(name) THEN
        going := CASE WHEN c.mode = 'whole' AND rules ->> 'whole' = 'keep' THEN 'true'
                      ELSE platform.any_text(platform.own_texts(rules, alias, c, 'pseudonym')
                                             || platform.own_texts(rules, alias, c, 'keep')
                                             || platform.own_texts(rules, alias, c, 'delete_row')) END;
        RETURN QUERY SELECT
            array(SELECT jsonb_array_elements_text(rules -> 'nulls')),
            format('(%s) AND (%s)%s', platform.emptied_text(rules, alias), going, free),
            format('%s WHERE (%s) AND (%s)%s', place, platform.emptied_text(rules, alias), going, free);
    END IF;
END
$$;

-- The UPDATE, of a table as `d`, that empties what there is a cause to empty; NULL when there is none.
CREATE FUNCTION platform.emptying_text(c platform.erasure_case, name text, rules jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('UPDATE %s SET %s', platform.place_text(rules, 'd'), string_agg(
               format('%1$I = CASE WHEN %2$s THEN NULL ELSE d.%1$I END', f.name, f.condition), ', '))
    FROM (SELECT each AS name, string_agg('(' || n.condition || ')', ' OR ') AS condition
          FROM platform.null_causes(c, emptying_text.name, rules, 'd') n CROSS JOIN LATERAL unnest(n.columns) AS each
          GROUP BY each) f
    HAVING count(*) > 0
$$;

-- Empty columns of up to `most` rows of one table. In rows that go themselves this only loosens a ring of references,
-- and is not counted.
CREATE FUNCTION platform.empty_of(c platform.erasure_case, name text, rules jsonb, most bigint) RETURNS bigint
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
            c, name, rules, format('SELECT t.ctid FROM %s AND %s AND (%s) IS NOT TRUE', cause, scope, goes), act,
            'true', 'null', most);
        IF emptied = 0 AND ring THEN
            emptied := platform.run_batch(
                c, name, rules, format('SELECT t.ctid FROM %s AND %s AND (%s)', cause, scope, goes), act,
                'true', NULL, most);
        END IF;
        EXIT WHEN emptied > 0;
    END LOOP;
    RETURN emptied;
END
$$;

-- Up to `most` rows of the first table of a case that has any left, rows that hang on others first; 0 when nothing is
-- left. One table at a time: what is locked is not held while another table is searched.
CREATE FUNCTION platform.erase_rows(c platform.erasure_case, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g record;
    leaves boolean;
    erased bigint;
BEGIN
    FOR g IN SELECT r.name, r.rules FROM platform.register r
             WHERE platform.concerns(r.name, r.rules, c.mode) ORDER BY r.position
    LOOP
        erased := platform.empty_of(c, g.name, g.rules, most);
        IF erased > 0 THEN
            RETURN erased;
        END IF;
        leaves := g.name = 'app.members' AND c.mode IN ('keep', 'erase');
        IF leaves THEN
            PERFORM app.may_leave(c.person);
        END IF;
        erased := platform.delete_of(c, g.name, g.rules, most);
        IF erased > 0 AND leaves THEN
            UPDATE platform.deletion_organizations SET left_at = now()
            WHERE job_id = app.principal_id() AND tenant_id = c.tenant;
        END IF;
        IF erased > 0 THEN
            RETURN erased;
        END IF;
    END LOOP;
    RETURN 0;
END
$$;

-- Nobody leaves an organization to no one: the last two members who are erased at the same time take turns here, and
-- the second one's erasure begins anew, with the organization as a whole. Raises CX409.
CREATE FUNCTION app.may_leave(person uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id = person
        AND NOT EXISTS (SELECT FROM app.legal_holds h WHERE h.tenant_id = m.tenant_id AND h.subject_user_id = person
                            AND h.released_at IS NULL AND h.until > now());
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM FROM app.organizations o WHERE o.tenant_id = app.tenant_id() FOR NO KEY UPDATE;
    IF app.erasure_mode(person) = 'whole' THEN
        RAISE EXCEPTION 'the last member does not leave: the organization goes' USING ERRCODE = 'CX409';
    END IF;
END
$$;

-- What becomes of the sealed organization's rows when the person is erased: `whole` when the organization itself is
-- erased, or goes with its only member; else as its policy says, unless the request decides (an approval).
CREATE FUNCTION app.erasure_mode(person uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN d.scope = 'organization' THEN 'whole'
        WHEN NOT EXISTS (SELECT FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id <> person)
            AND (d.scope IS NULL OR d.scope = 'me' OR d.parent_id IS NOT NULL) THEN 'whole'
        WHEN coalesce(d.policy, o.settings ->> 'erasure_policy') = 'erase' THEN 'erase'
        ELSE 'keep' END
    FROM (SELECT) AS one
    LEFT JOIN platform.sealed_deletion() d ON true
    LEFT JOIN app.organizations o ON o.tenant_id = app.tenant_id()
$$;

CREATE FUNCTION app.erase_batch(mode text, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
    here platform.deletion_organizations;
    erased bigint;
BEGIN
    SELECT * INTO request FROM platform.sealed_deletion();
    SELECT * INTO here FROM platform.deletion_organizations o
    WHERE o.job_id = request.job_id AND o.tenant_id = app.tenant_id();
    IF here.mode IS NULL OR here.mode IS DISTINCT FROM erase_batch.mode OR most < 1 THEN
        RAISE EXCEPTION 'the sealed job does not erase this organization so' USING ERRCODE = '42501';
    ELSIF here.counted_at IS NOT NULL THEN
        RETURN 0;
    END IF;
    erased := platform.erase_rows(platform.case_of(request.subject_id, here.mode), most);
    IF erased = 0 THEN -- what stays is counted once, when the rest has gone
        PERFORM platform.count_erased(k.table_name, k.action, k.row_count)
        FROM platform.case_counts(platform.case_of(request.subject_id, here.mode)) k
        WHERE k.action IN ('pseudonym', 'keep');
        UPDATE platform.deletion_organizations SET counted_at = clock_timestamp()
        WHERE job_id = here.job_id AND tenant_id = here.tenant_id;
    END IF;
    RETURN erased;
END
$$;

CREATE FUNCTION app.subject_counts(person uuid, mode text)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.table_name, k.action, k.row_count FROM platform.case_counts(platform.case_of(person, mode)) k
    WHERE k.action <> 'held' AND app.tenant_id() IS NOT NULL AND mode IN ('keep', 'erase', 'whole')
$$;

-- Rows of the sealed organization that legal holds keep from an erasure, and until when.
CREATE FUNCTION app.held_counts(person uuid, mode text)
RETURNS TABLE (table_name text, row_count bigint, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.table_name, k.row_count, (SELECT max(h.until) FROM app.legal_holds h
                                       WHERE h.tenant_id = app.tenant_id() AND h.released_at IS NULL AND h.until > now())
    FROM platform.case_counts(platform.case_of(person, mode)) k
    WHERE k.action = 'held' AND app.tenant_id() IS NOT NULL AND mode IN ('keep', 'erase', 'whole')
$$;

-- The same for the platform's own rows: the account of a person with a hold anywhere.
CREATE FUNCTION platform.held_counts(person uuid)
RETURNS TABLE (table_name text, row_count bigint, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.table_name, k.row_count, (SELECT max(h.until) FROM app.legal_holds h
                                       WHERE h.subject_user_id = person AND h.released_at IS NULL AND h.until > now())
    FROM platform.case_counts(platform.case_of(person, 'account')) k WHERE k.action = 'held'
$$;

-- The person whose membership this very transaction has ended; NULL when it has not.
CREATE FUNCTION platform.membership_ended() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.subject_id FROM platform.sealed_deletion() d JOIN platform.deletion_organizations o ON o.job_id = d.job_id
    WHERE o.tenant_id = app.tenant_id() AND o.left_at = now()
$$;

-- A job goes with the export or erasure that it ran.
CREATE FUNCTION platform.forget_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM platform.jobs j WHERE j.id = (to_jsonb(OLD) ->> TG_ARGV[0])::uuid;
    RETURN NULL;
END
$$;

-- Up to `most` rows of a table whose period of the register is over. Rows under a legal hold stay, and rows on which
-- others hang that do not go with them.
CREATE FUNCTION platform.retire(wanted text, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c platform.erasure_case := platform.case_of(NULL, 'retire');
    own jsonb;
    link record;
    over tid[];
BEGIN
    SELECT g.rules INTO STRICT own FROM platform.register g
    WHERE g.name = wanted AND g.rules ->> 'period' IS NOT NULL AND NOT platform.is_chain(g.name);
    c.holds := EXISTS (SELECT FROM app.legal_holds h WHERE h.released_at IS NULL AND h.until > now());
    EXECUTE format('SELECT array_agg(ctid) FROM (SELECT t.ctid FROM %s WHERE t.%I < now() - $2 AND (%s) IS NOT TRUE'
                   ' LIMIT $3 FOR UPDATE OF t SKIP LOCKED) AS over', platform.place_text(own, 't'), own ->> 'after',
                   coalesce(platform.stays_text(wanted, 't', c, '{}'), 'false'))
    INTO over USING c, (own ->> 'period')::interval, most;
    FOR link IN SELECT g.rules, l
                FROM platform.register g CROSS JOIN LATERAL jsonb_array_elements(g.rules -> 'parents') AS l
                WHERE l ->> 'table' = wanted AND l ->> 'rule' = 'with_parent' ORDER BY g.position
    LOOP
        EXECUTE format('DELETE FROM %s USING %s WHERE %s AND t.ctid = ANY ($1)', platform.place_text(link.rules, 'd'),
                       platform.place_text(own, 't'), platform.join_text(link.l, 'd', 't'))
        USING over;
    END LOOP;
    EXECUTE format('DELETE FROM %s WHERE d.ctid = ANY ($1)', platform.place_text(own, 'd')) USING over;
    RETURN coalesce(cardinality(over), 0);
END
$$;

-- The tables with a period, rows that hang on others first.
CREATE FUNCTION platform.periodical_tables() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.name FROM platform.register g
    WHERE g.rules ->> 'period' IS NOT NULL AND NOT platform.is_chain(g.name) ORDER BY g.position
$$;

-- The tables about people that the database knows.
CREATE FUNCTION platform.known_tables() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.name FROM platform.register g WHERE jsonb_array_length(g.rules -> 'subjects') > 0 ORDER BY g.position
$$;

SET LOCAL ROLE context_definer;

CREATE OR REPLACE FUNCTION platform.count_erased(counted text, done text, more bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.deletion_counts AS c (job_id, table_name, action, rows)
    SELECT d.job_id, counted, done, more FROM platform.sealed_deletion() d WHERE more > 0
    ON CONFLICT (job_id, table_name, action) DO UPDATE SET rows = c.rows + excluded.rows
$$;

CREATE OR REPLACE FUNCTION platform.deletion_progress(step text, new_status text, more bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_steps s SET status = new_status, rows = s.rows + more, at = clock_timestamp()
    FROM platform.sealed_deletion() d WHERE s.job_id = d.job_id AND s.name = step
$$;

CREATE OR REPLACE FUNCTION platform.deletion_tenants() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tenant_id FROM platform.sealed_deletion() d JOIN platform.job_tenants t ON t.job_id = d.job_id
    ORDER BY t.tenant_id
$$;

-- The mode in which the sealed organization's rows go, or `done`. Once decided it stays, but for an organization whose
-- other members have all left since: it goes as a whole. It is locked only while that is decided.
CREATE OR REPLACE FUNCTION platform.enter_organization() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
    known platform.deletion_organizations;
    decided text;
BEGIN
    SELECT * INTO request FROM platform.sealed_deletion();
    SELECT * INTO known FROM platform.deletion_organizations o
    WHERE o.job_id = request.job_id AND o.tenant_id = app.tenant_id();
    IF request.job_id IS NULL OR app.tenant_id() IS NULL OR known.done_at IS NOT NULL THEN
        RETURN 'done';
    ELSIF known.mode = 'whole' OR known.left_at IS NOT NULL
        OR (known.mode IS NOT NULL AND app.erasure_mode(request.subject_id) <> 'whole')
    THEN
        RETURN known.mode;
    END IF;
    PERFORM FROM app.organizations o WHERE o.tenant_id = app.tenant_id() FOR NO KEY UPDATE;
    decided := app.erasure_mode(request.subject_id);
    IF decided = 'whole' THEN
        UPDATE app.organizations SET suspended_at = coalesce(suspended_at, clock_timestamp())
        WHERE tenant_id = app.tenant_id();
    END IF;
    INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode)
    VALUES (request.job_id, app.tenant_id(), decided)
    ON CONFLICT (job_id, tenant_id) DO UPDATE SET mode = decided;
    RETURN decided;
END
$$;

CREATE OR REPLACE FUNCTION platform.organization_done() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_organizations o SET done_at = clock_timestamp()
    FROM platform.sealed_deletion() d
    WHERE o.job_id = d.job_id AND o.tenant_id = app.tenant_id() AND o.counted_at IS NOT NULL AND o.done_at IS NULL
$$;

-- Empty the personal part of up to `most` of the person's events in the sealed organization; their seqs. Each batch
-- begins where the last one ended; when nothing follows, one more look from the start finds what came in between.
CREATE OR REPLACE FUNCTION app.erase_personal(most integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c CONSTANT platform.erasure_case := platform.case_of(platform.erased_subject(), 'keep');
    own CONSTANT jsonb := (SELECT g.rules FROM platform.register g WHERE g.name = 'app.audit_events');
    free CONSTANT text := coalesce(
        ' AND ' || CASE WHEN c.holds THEN platform.held_text('app.audit_events', own, 't') END || ' IS NOT TRUE', '');
    after jsonb;
    hers record;
    seqs bigint[];
    erased bigint[] := '{}';
BEGIN
    SELECT o.personal_after INTO after FROM platform.deletion_organizations o
    WHERE o.job_id = app.principal_id() AND o.tenant_id = c.tenant;
    FOR hers IN
        SELECT m.condition, m.subject::text, again FROM generate_series(0, 1) AS again
        CROSS JOIN unnest(platform.own_texts(own, 't', c, 'keep')) WITH ORDINALITY AS m (condition, subject)
        ORDER BY again, m.subject
    LOOP
        EXIT WHEN hers.again = 1 AND erased <> '{}';
        EXECUTE format('SELECT array_agg(seq) FROM (SELECT t.seq FROM app.audit_events t WHERE t.tenant_id = ($1).tenant'
                       ' AND t.personal IS NOT NULL AND t.seq > $3 AND %s%s'
                       ' ORDER BY t.seq LIMIT $2 FOR UPDATE) AS found', hers.condition, free)
        INTO seqs
        USING c, most - cardinality(erased),
            CASE hers.again WHEN 0 THEN coalesce((after ->> hers.subject)::bigint, 0) ELSE 0 END;
        CONTINUE WHEN seqs IS NULL;
        UPDATE app.audit_events e SET personal = NULL, personal_salt = NULL
        WHERE e.tenant_id = c.tenant AND e.seq = ANY (seqs);
        erased := erased || seqs;
        after := after || jsonb_build_object(hers.subject, (SELECT max(seq) FROM unnest(seqs) AS seq));
        EXIT WHEN cardinality(erased) >= most;
    END LOOP;
    UPDATE platform.deletion_organizations SET personal_after = after
    WHERE job_id = app.principal_id() AND tenant_id = c.tenant AND personal_after <> after;
    PERFORM platform.count_erased('app.audit_events', 'null', cardinality(erased));
    RETURN array(SELECT seq FROM unnest(erased) AS seq ORDER BY seq);
END
$$;

-- Up to `most` of the platform's own rows about the person, the account last; 0 when nothing is left.
CREATE OR REPLACE FUNCTION platform.erase_account(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
BEGIN
    SELECT * INTO request FROM platform.sealed_deletion();
    IF request.scope IS DISTINCT FROM 'me' OR request.parent_id IS NOT NULL OR app.tenant_id() IS NOT NULL
        OR most < 1
    THEN
        RAISE EXCEPTION 'the sealed job does not erase an account' USING ERRCODE = '42501';
    END IF;
    UPDATE platform.deletions SET reason = NULL, mail_to = NULL, name_to_find = NULL, phones_to_find = '{}',
        extension_reason = NULL
    WHERE subject_id = request.subject_id AND job_id <> request.job_id AND finished_at IS NOT NULL
        AND (num_nonnulls(reason, mail_to, name_to_find, extension_reason) > 0
             OR phones_to_find <> '{}');
    RETURN platform.erase_rows(platform.case_of(request.subject_id, 'account'), most);
END
$$;

CREATE OR REPLACE FUNCTION platform.subject_counts(person uuid)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.table_name, k.action, k.row_count FROM platform.case_counts(platform.case_of(person, 'account')) k
    WHERE k.action <> 'held'
$$;

CREATE OR REPLACE FUNCTION app.preview_deletion() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_agg(json_build_object('table', c.table_name, 'action', c.action, 'rows', c.row_count))
    FROM app.subject_counts(app.principal_id(), app.erasure_mode(app.principal_id())) c
    WHERE app.sealed(1) = 'u'
$$;

-- Rows of one table that still hold an identifier of the person: address and phone numbers in any text, the id where
-- the platform itself is the controller, the name in rows of her own. Of an organization that was erased, every row.
DROP FUNCTION platform.scan_table(text);
CREATE FUNCTION platform.scan_table(wanted text, phones text[] DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
    c platform.erasure_case;
    own jsonb;
    place record;
    texts text[];
    bytes text[];
    ids text[];
    joined text;
    conditions text[] := '{}';
    scope text := 'true';
    hits bigint;
BEGIN
    SELECT d.* INTO STRICT request FROM platform.sealed_deletion() d;
    SELECT coalesce(request.mail_to, p.mail_to), coalesce(request.name_to_find, p.name_to_find)
    INTO request.mail_to, request.name_to_find
    FROM (SELECT) AS one LEFT JOIN platform.deletions p ON p.job_id = request.parent_id;
    SELECT n.nspname AS schema, r.relname AS name, r.oid INTO STRICT place
    FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname || '.' || r.relname = wanted AND n.nspname IN ('app', 'identity', 'platform')
        AND r.relkind IN ('r', 'p');
    SELECT g.rules INTO own FROM platform.register g WHERE g.name = wanted;
    c := platform.case_of(request.subject_id, CASE place.schema WHEN 'app' THEN 'whole' ELSE 'account' END);
    IF request.subject_id IS NULL THEN
        IF place.schema <> 'app' OR own ->> 'whole' = 'keep' THEN
            RETURN 0;
        END IF;
        EXECUTE format('SELECT count(*) FROM %s WHERE t.tenant_id = ($1).tenant AND (%s) IS NOT TRUE',
                       platform.place_text(own, 't'), coalesce(platform.stays_text(wanted, 't', c, '{}'), 'false'))
        INTO hits USING c;
        RETURN hits;
    END IF;
    -- What people call themselves or their organizations is theirs to say, also another's name.
    SELECT array_agg(format('t.%I::text', a.attname) ORDER BY a.attnum) FILTER (WHERE
               a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype, 'json'::regtype,
                              'jsonb'::regtype, 'xml'::regtype, 'text[]'::regtype, 'varchar[]'::regtype,
                              'jsonb[]'::regtype)
               AND (place.schema = 'app' OR a.attname NOT IN (
                   'email', 'display_name', 'organization_name', 'user_agent'))),
           array_agg(format('t.%I', a.attname)) FILTER (WHERE a.atttypid = 'bytea'::regtype),
           array_agg(CASE WHEN a.atttypid = 'uuid'::regtype THEN format('t.%I = ($1).person', a.attname)
                          ELSE format('($1).person = ANY (t.%I)', a.attname) END)
               FILTER (WHERE a.atttypid IN ('uuid'::regtype, 'uuid[]'::regtype) AND a.attname <> 'tenant_id')
    INTO texts, bytes, ids
    FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attnum > 0 AND NOT a.attisdropped;
    joined := format('concat_ws(E''\n'', %s)', array_to_string(texts, ', '));
    IF place.schema = 'app' THEN
        scope := 't.tenant_id = ($1).tenant';
    ELSIF wanted = 'platform.deletions' THEN -- open requests still need the address
        scope := 't.subject_id = ($1).person AND t.finished_at IS NOT NULL';
        ids := NULL;
    ELSIF wanted = 'identity.accounts' AND c.holds THEN
        scope := format('(%s) IS NOT TRUE', platform.held_text(wanted, own, 't'));
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'created_at'
                   AND a.atttypid = 'timestamptz'::regtype) AND request.frozen_at IS NOT NULL THEN
        scope := scope || ' AND t.created_at <= $5';
    END IF;
    IF texts IS NOT NULL THEN
        -- The cheap search first: the exact one, which knows where an address begins and ends, judges what it finds.
        conditions := conditions || format('(strpos(lower(%1$s), $2) > 0 AND %1$s ~* $3)', joined);
        IF phones <> '{}' THEN
            conditions := conditions || format('EXISTS (SELECT FROM unnest($6) AS phone WHERE strpos(%s, phone) > 0)',
                                               joined);
        END IF;
    END IF;
    IF bytes IS NOT NULL AND request.mail_to IS NOT NULL THEN
        conditions := conditions || array(
            SELECT format('position(convert_to($2, ''UTF8'') IN %s) > 0', each) FROM unnest(bytes) AS each);
    END IF;
    IF place.schema <> 'app' AND EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'email' AND NOT a.attisdropped)
    THEN
        conditions := conditions || 'lower(t.email) = $2'::text;
    END IF;
    IF ids IS NOT NULL AND place.schema <> 'app' THEN
        conditions := conditions || ids;
    ELSIF ids IS NOT NULL AND texts IS NOT NULL THEN
        conditions := conditions || format('((%s) AND %s ~ $4)', array_to_string(ids, ' OR '), joined);
    END IF;
    IF conditions = '{}' THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I.%I t WHERE %s AND (%s)', place.schema, place.name, scope,
                   array_to_string(conditions, ' OR '))
    INTO hits
    USING c, lower(request.mail_to),
        '(?<![a-z0-9._%+-])' || platform.literal_pattern(request.mail_to) || '(?![a-z0-9-]|\.[a-z0-9])',
        '(?<!\w)' || platform.literal_pattern(request.name_to_find) || '(?!\w)', request.frozen_at, phones;
    RETURN hits;
END
$$;

-- What the functions above replace.
DROP FUNCTION app.subject_counts(uuid, boolean), app.subject_counts_of_members(uuid, boolean),
    app.subject_counts_of_content(uuid, boolean), app.subject_counts_without_answers(uuid, boolean),
    platform.subject_counts_of_account(uuid), platform.subject_references(uuid),
    platform.subject_references_of_account(uuid), platform.account_tables(), platform.erase_account_rows(integer),
    platform.leave_organization(), platform.end_membership(), platform.leave_as_member(),
    platform.leave_without_answers(), platform.mark_organization_done(), platform.retire(text, interval, integer),
    platform.retire_rows(text, interval, integer), platform.retire_before_invitations(text, interval, integer);

SET LOCAL ROLE context_owner;

-- The job's login deletes nothing of an organization itself any more. Audit events and their heads go with the whole
-- organization alone, whoever asks.
DO $$
DECLARE
    place record;
    signature text;
BEGIN
    FOR place IN SELECT p.polrelid::regclass AS name FROM pg_policy p WHERE p.polname = 'erased_as_a_whole' LOOP
        EXECUTE format('DROP POLICY erased_as_a_whole ON %s', place.name);
        EXECUTE format('REVOKE ALL ON %s FROM deletions_jobs_fn', place.name);
    END LOOP;
    FOREACH signature IN ARRAY ARRAY['app.audit_events', 'app.audit_heads'] LOOP
        EXECUTE format('CREATE POLICY erased_as_a_whole ON %s AS RESTRICTIVE FOR DELETE TO context_definer'
                       ' USING ((SELECT platform.erases_organization()))', signature);
    END LOOP;
    FOREACH signature IN ARRAY ARRAY[
        'platform.sealed_deletion()', 'platform.is_chain(text)', 'platform.place_text(jsonb, text)',
        'platform.join_text(jsonb, text, text)', 'platform.elsewhere_text(text)',
        'platform.match_text(text, jsonb, platform.erasure_case)',
        'platform.own_texts(jsonb, text, platform.erasure_case, text)',
        'platform.scope_text(jsonb, text, platform.erasure_case)', 'platform.held_text(text, jsonb, text)',
        'platform.stays_text(text, text, platform.erasure_case, text[])',
        'platform.doomed_text(text, text, platform.erasure_case, text[])',
        'platform.doomed_parents(text, text, platform.erasure_case, text[], text)', 'platform.case_of(uuid, text)',
        'platform.concerns(text, jsonb, text)', 'platform.case_counts(platform.erasure_case)',
        'platform.any_text(text[])', 'platform.emptied_text(jsonb, text)',
        'platform.run_batch(platform.erasure_case, text, jsonb, text, text, text, text, bigint)',
        'platform.delete_of(platform.erasure_case, text, jsonb, bigint)',
        'platform.empty_of(platform.erasure_case, text, jsonb, bigint)',
        'platform.null_causes(platform.erasure_case, text, jsonb, text)',
        'platform.emptying_text(platform.erasure_case, text, jsonb)', 'platform.leaf_text(text, jsonb, text)',
        'platform.erase_rows(platform.erasure_case, bigint)', 'app.may_leave(uuid)', 'app.erasure_mode(uuid)',
        'app.erase_batch(text, integer)', 'app.subject_counts(uuid, text)', 'app.held_counts(uuid, text)',
        'platform.held_counts(uuid)', 'platform.membership_ended()', 'platform.forget_job()',
        'platform.retire(text, integer)', 'platform.periodical_tables()',
        'platform.known_tables()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
REVOKE USAGE ON TYPE platform.erasure_case FROM PUBLIC;
GRANT USAGE ON TYPE platform.erasure_case TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.erase_batch(text, integer), platform.membership_ended(), platform.known_tables(),
    platform.scan_table(text, text[]) TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.retire(text, integer), platform.periodical_tables() TO retention_fn;
GRANT EXECUTE ON FUNCTION platform.forget_job() TO context_owner;
REVOKE EXECUTE ON FUNCTION platform.count_erased(text, text, bigint) FROM deletions_jobs_fn;
REVOKE EXECUTE ON FUNCTION platform.scan_table(text, text[]) FROM PUBLIC;
SET LOCAL ROLE context_owner;
CREATE TRIGGER job_goes_too AFTER DELETE ON platform.exports FOR EACH ROW EXECUTE FUNCTION platform.forget_job('id');
CREATE TRIGGER job_goes_too AFTER DELETE ON platform.deletions
    FOR EACH ROW EXECUTE FUNCTION platform.forget_job('job_id');
