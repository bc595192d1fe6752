-- The incident automation: alerts of Cloud Monitoring that it answers, the record that each opens, and the networks that
-- Cloud Armor refuses meanwhile. What is wanted stands here, what is in force in the slot of the security policy
-- (docs/edge.md); a run compares the two, so one that dies between them has lost nothing.
-- squawk-ignore-file constraint-missing-not-valid

-- An alert by Monitoring's id. Alerts of one kind within a day share a record. looked_at: until when its requests were
-- looked at; left_over: networks above the limit for which the slot had no room.
CREATE TABLE platform.alerts (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    name text NOT NULL CHECK (name ~ '^[a-z_]{1,64}$'),
    incident_id uuid NOT NULL REFERENCES platform.incidents ON DELETE CASCADE,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    looked_at timestamptz,
    blocked integer NOT NULL DEFAULT 0,
    left_over integer NOT NULL DEFAULT 0,
    told_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alerts_by_incident ON platform.alerts (incident_id);
CREATE INDEX alerts_newest ON platform.alerts (created_at DESC);

-- A network that is to be refused until ends_at: by an alert, by the operator, or found in the slot, where somebody had
-- written it. in_force_at: the slot held it; lifted_at: the slot holds it no more; spared_until: a person has ended it,
-- and until then no alert blocks it again.
CREATE TABLE platform.blocks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    network cidr NOT NULL,
    source text NOT NULL CHECK (source IN ('alert', 'operator', 'slot')),
    alert_id text REFERENCES platform.alerts ON DELETE CASCADE,
    requests integer CHECK (requests > 0),
    ends_at timestamptz NOT NULL CHECK (isfinite(ends_at)),
    in_force_at timestamptz,
    lifted_at timestamptz,
    spared_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT blocks_of_an_alert CHECK ((source = 'alert') = (alert_id IS NOT NULL))
);
CREATE UNIQUE INDEX blocks_once ON platform.blocks (network) WHERE lifted_at IS NULL;
CREATE INDEX blocks_by_alert ON platform.blocks (alert_id);
CREATE INDEX blocks_by_end ON platform.blocks (lifted_at);
ALTER TABLE platform.blocks ALTER COLUMN network SET STATISTICS 0;

-- One run at a time: a security policy knows no condition under which it is written.
CREATE TABLE platform.block_run (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    run uuid NOT NULL,
    ends_at timestamptz NOT NULL
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['alerts', 'blocks', 'block_run'] LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON platform.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON platform.%I TO context_definer', name);
    END LOOP;
END
$$;

-- A mail to the platform's operator about what was done: kind `answered`, due_at is the alert's told_at.
-- squawk-ignore ban-drop-constraint
ALTER TABLE platform.incident_mails DROP CONSTRAINT incident_mails_kind_check;
ALTER TABLE platform.incident_mails ADD CONSTRAINT incident_mails_kind_check CHECK (
    kind IN ('opened', 'due', 'overdue', 'draft_authority', 'draft_subjects', 'told', 'answered'));

-- Raises unless the caller is the system, in no organization and for no job.
CREATE FUNCTION platform.for_the_system() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT platform.is_watcher() THEN
        RAISE EXCEPTION 'for the system' USING ERRCODE = '42501';
    END IF;
END
$$;

-- Whether the slot is this run's alone: until it ends, or for so many seconds if it dies.
CREATE FUNCTION platform.begin_block_run(new_run uuid, seconds integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.for_the_system();
    INSERT INTO platform.block_run AS present (run, ends_at)
    VALUES (new_run, clock_timestamp() + make_interval(secs => seconds))
    ON CONFLICT (only_row) DO UPDATE SET run = excluded.run, ends_at = excluded.ends_at
    WHERE present.ends_at <= clock_timestamp() OR present.run = excluded.run;
    RETURN FOUND;
END
$$;

CREATE FUNCTION platform.end_block_run(ended uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM platform.block_run WHERE run = ended AND platform.is_watcher()
$$;

-- The record of an alert: its own of an earlier delivery, the open one of its kind that is younger than a day, or a new
-- one, of nobody's organization.
CREATE FUNCTION platform.open_alert(
    alert text, kind text, title text, severity text, description text, began timestamptz, request text
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    record uuid := (SELECT a.incident_id FROM platform.alerts a WHERE a.id = alert);
BEGIN
    PERFORM platform.for_the_system();
    IF record IS NOT NULL THEN
        RETURN record;
    END IF;
    SELECT a.incident_id INTO record
    FROM platform.alerts a JOIN platform.incidents p ON p.id = a.incident_id AND p.closed_at IS NULL
    WHERE a.name = kind AND p.created_at > clock_timestamp() - interval '1 day'
    ORDER BY p.created_at DESC LIMIT 1;
    IF record IS NULL THEN
        record := gen_random_uuid();
        PERFORM platform.open_incident(
            record, title, severity, least(began, clock_timestamp()), '{}', '{}', description,
            jsonb_build_object('alert', kind), request);
    END IF;
    INSERT INTO platform.alerts (id, name, incident_id, opened_at)
    VALUES (alert, kind, record, least(began, clock_timestamp()));
    RETURN record;
END
$$;

-- Monitoring says that it is over; one that is not known was none of ours.
CREATE FUNCTION platform.close_alert(alert text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.alerts a SET closed_at = clock_timestamp()
    WHERE a.id = alert AND a.closed_at IS NULL AND platform.is_watcher()
$$;

-- What has to be looked at: this alert, or those that go on or were not told of. Monitoring keeps one open for as long as
-- it is true; of one whose end nobody told, the log of the load balancer knows nothing any more after 30 days.
CREATE FUNCTION platform.waiting_alerts(alert text)
RETURNS TABLE (id text, name text, incident_id uuid, opened_at timestamptz, looked_at timestamptz, told boolean,
               blocked integer, left_over integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.name, a.incident_id, a.opened_at, a.looked_at, a.told_at IS NOT NULL, a.blocked, a.left_over
    FROM platform.alerts a
    WHERE platform.is_watcher() AND CASE WHEN alert IS NOT NULL THEN a.id = alert
        ELSE a.created_at > clock_timestamp() - interval '30 days' AND (a.closed_at IS NULL OR a.told_at IS NULL) END
    ORDER BY a.created_at, a.id
$$;

-- Networks above the limit of an alert, the worst first: the slot takes `most` at once. One that is blocked, or was since
-- the look begins, is not blocked anew: who is refused sends nothing that counts. Nor is one that a person took out. How
-- many are new, and for how many there was no room.
CREATE FUNCTION platform.block(
    alert text, networks cidr[], counts integer[], seconds integer, most integer, since timestamptz, until timestamptz,
    OUT added integer, OUT beyond integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ends CONSTANT timestamptz := clock_timestamp() + make_interval(secs => seconds);
    each record;
BEGIN
    PERFORM platform.for_the_system();
    added := 0;
    beyond := 0;
    FOR each IN SELECT n.network, n.requests FROM unnest(networks, counts) AS n (network, requests) LOOP
        IF EXISTS (SELECT FROM platform.blocks b
                   WHERE (b.lifted_at IS NULL OR b.lifted_at > since) AND b.network >>= each.network
                       OR b.spared_until > clock_timestamp() AND b.network && each.network) THEN
            CONTINUE; -- those requests have or had their block
        ELSIF (SELECT count(*) FROM platform.blocks b
               WHERE b.lifted_at IS NULL AND b.ends_at > clock_timestamp()) < most THEN
            INSERT INTO platform.blocks (network, source, alert_id, requests, ends_at)
            VALUES (each.network, 'alert', alert, each.requests, ends);
            added := added + 1;
        ELSE
            beyond := beyond + 1;
        END IF;
    END LOOP;
    UPDATE platform.alerts a SET looked_at = until, blocked = a.blocked + added, left_over = beyond WHERE a.id = alert;
END
$$;

-- What the slot should hold and what it held, the oldest first.
CREATE FUNCTION platform.present_blocks()
RETURNS TABLE (id uuid, network text, ends_at timestamptz, in_force boolean, over boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.id, b.network::text, b.ends_at, b.in_force_at IS NOT NULL, b.ends_at <= clock_timestamp()
    FROM platform.blocks b WHERE b.lifted_at IS NULL AND platform.is_watcher() ORDER BY b.created_at, b.id
$$;

-- What somebody has written into the slot is kept like a block of ours, and ends like one.
CREATE FUNCTION platform.adopt_blocks(networks cidr[], ends timestamptz, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.for_the_system();
    INSERT INTO platform.blocks (network, source, ends_at, in_force_at)
    SELECT n, 'slot', ends, clock_timestamp() FROM unnest(networks) AS n;
    PERFORM platform.record_event(
        NULL, 'block.found', 'block', NULL, jsonb_build_object('networks', cardinality(networks)), request);
END
$$;

-- The slot holds these now, and those no more: because they were over, or because somebody took them out (undone).
CREATE FUNCTION platform.settle_blocks(forced uuid[], ended uuid[], undone uuid[], request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM platform.for_the_system();
    UPDATE platform.blocks b SET in_force_at = clock_timestamp() WHERE b.id = ANY (forced);
    UPDATE platform.blocks b SET in_force_at = NULL WHERE b.id = ANY (ended) AND b.ends_at > clock_timestamp();
    UPDATE platform.blocks b SET lifted_at = clock_timestamp()
    WHERE b.id = ANY (undone) OR b.id = ANY (ended) AND b.ends_at <= clock_timestamp();
    UPDATE platform.blocks b SET spared_until = clock_timestamp() + interval '1 day' WHERE b.id = ANY (undone);
    IF cardinality(forced) > 0 THEN
        PERFORM platform.record_event(
            NULL, 'block.made', 'block', NULL, jsonb_build_object('networks', cardinality(forced)), request);
    END IF;
    IF cardinality(ended || undone) > 0 THEN
        PERFORM platform.record_event(
            NULL, 'block.lifted', 'block', NULL,
            jsonb_build_object('over', cardinality(ended), 'undone', cardinality(undone)), request);
    END IF;
END
$$;

-- Say once of an alert what was done, by mail to the operator if there is one; false when it was said.
CREATE FUNCTION platform.tell_alert(alert text, to_operator boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mail CONSTANT uuid := gen_random_uuid();
    known platform.alerts;
BEGIN
    PERFORM platform.for_the_system();
    UPDATE platform.alerts a SET told_at = clock_timestamp() WHERE a.id = alert AND a.told_at IS NULL
    RETURNING * INTO known;
    IF known.id IS NULL THEN
        RETURN false;
    END IF;
    IF to_operator THEN
        INSERT INTO platform.incident_mails (id, incident_id, kind, due_at)
        VALUES (mail, known.incident_id, 'answered', known.told_at);
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        VALUES (gen_random_uuid(), 'mail', 'incident', mail, replace(gen_random_uuid()::text, '-', ''));
    END IF;
    RETURN true;
END
$$;

-- For the operator: what is blocked, or was lately.
CREATE FUNCTION platform.list_blocks(most integer)
RETURNS TABLE (network text, source text, alert text, requests integer, created_at timestamptz, ends_at timestamptz,
               state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.network::text, b.source, a.name, b.requests, b.created_at, b.ends_at,
           CASE WHEN b.lifted_at IS NOT NULL THEN 'lifted' WHEN b.ends_at <= clock_timestamp() THEN 'ends'
                WHEN b.in_force_at IS NULL THEN 'begins' ELSE 'blocked' END
    FROM platform.blocks b LEFT JOIN platform.alerts a ON a.id = b.alert_id
    ORDER BY b.lifted_at IS NOT NULL, b.created_at DESC, b.id LIMIT most
$$;

-- By the operator: full (there is no room), longer (it is blocked, and for so long at least) or added; a wider block lasts
-- no longer for it. It is in force with the next run.
CREATE FUNCTION platform.add_block(wanted cidr, seconds integer, most integer, noted jsonb, request text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ends CONSTANT timestamptz := clock_timestamp() + make_interval(secs => seconds);
    outcome text := 'longer';
BEGIN
    UPDATE platform.blocks b
    SET ends_at = greatest(b.ends_at, ends),
        in_force_at = CASE WHEN b.ends_at > clock_timestamp() THEN b.in_force_at END
    WHERE b.lifted_at IS NULL AND b.network = wanted;
    IF NOT FOUND AND NOT EXISTS (
        SELECT FROM platform.blocks b WHERE b.lifted_at IS NULL AND b.network >>= wanted AND b.ends_at >= ends
    ) THEN
        IF (SELECT count(*) FROM platform.blocks b
            WHERE b.lifted_at IS NULL AND b.ends_at > clock_timestamp()) >= most THEN
            RETURN 'full';
        END IF;
        INSERT INTO platform.blocks (network, source, ends_at) VALUES (wanted, 'operator', ends);
        outcome := 'added';
    END IF;
    PERFORM platform.record_event(
        NULL, 'block.added', 'block', NULL,
        coalesce(noted, '{}') || jsonb_build_object('seconds', seconds, 'result', outcome), request);
    RETURN outcome;
END
$$;

-- How many blocks that touch a network end now: the next run takes them out of the slot. For a day no alert blocks them.
CREATE FUNCTION platform.end_blocks(unwanted cidr, noted jsonb, request text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total integer;
BEGIN
    UPDATE platform.blocks b
    SET ends_at = least(b.ends_at, clock_timestamp()), spared_until = clock_timestamp() + interval '1 day'
    WHERE b.lifted_at IS NULL AND b.network && unwanted;
    GET DIAGNOSTICS total = ROW_COUNT;
    IF total > 0 THEN
        PERFORM platform.record_event(
            NULL, 'block.ended', 'block', NULL, coalesce(noted, '{}') || jsonb_build_object('networks', total), request);
    END IF;
    RETURN total;
END
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.for_the_system()', 'platform.begin_block_run(uuid, integer)', 'platform.end_block_run(uuid)',
        'platform.open_alert(text, text, text, text, text, timestamptz, text)', 'platform.close_alert(text)',
        'platform.waiting_alerts(text)', 'platform.block(text, cidr[], integer[], integer, integer, timestamptz, timestamptz)',
        'platform.present_blocks()', 'platform.adopt_blocks(cidr[], timestamptz, text)',
        'platform.settle_blocks(uuid[], uuid[], uuid[], text)', 'platform.tell_alert(text, boolean)',
        'platform.list_blocks(integer)', 'platform.add_block(cidr, integer, integer, jsonb, text)',
        'platform.end_blocks(cidr, jsonb, text)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA app, platform TO incidents_fn;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.authorize(text) TO incidents_fn;
GRANT EXECUTE ON FUNCTION platform.begin_block_run(uuid, integer), platform.end_block_run(uuid),
    platform.open_alert(text, text, text, text, text, timestamptz, text), platform.close_alert(text),
    platform.waiting_alerts(text), platform.block(text, cidr[], integer[], integer, integer, timestamptz, timestamptz),
    platform.present_blocks(), platform.adopt_blocks(cidr[], timestamptz, text),
    platform.settle_blocks(uuid[], uuid[], uuid[], text), platform.tell_alert(text, boolean) TO incidents_fn;
GRANT EXECUTE ON FUNCTION platform.list_blocks(integer), platform.add_block(cidr, integer, integer, jsonb, text),
    platform.end_blocks(cidr, jsonb, text) TO context_owner;

-- The mail of an outbox row, as before, but that of the platform's own incident, which had shown nothing of it; of an alert
-- it tells what was done (`answer`).
CREATE OR REPLACE FUNCTION platform.incident_mail(mail uuid)
RETURNS TABLE (kind text, email text, organization text, incident json, words text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.kind, a.email, g.name,
           CASE WHEN m.tenant_id IS NOT NULL THEN app.incident_json(i) ELSE json_build_object(
               'id', p.id, 'title', p.title, 'description', p.description, 'severity', p.severity,
               'detected_at', platform.utc(p.detected_at),
               'notify_by', platform.utc(platform.notify_by(p.detected_at)), 'data_classes', to_json(p.data_classes),
               'answer', (SELECT json_build_object('blocked', t.blocked, 'left_over', t.left_over,
                                                   'ends_at', (SELECT platform.utc(max(b.ends_at)) FROM platform.blocks b
                                                               WHERE b.alert_id = t.id AND b.lifted_at IS NULL))
                          FROM platform.alerts t WHERE t.incident_id = p.id AND t.told_at = m.due_at)) END,
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
SET LOCAL ROLE context_owner;
