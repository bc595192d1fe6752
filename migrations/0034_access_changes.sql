-- What open streams hang on: a feed of whatever may end or narrow somebody's access, and what the watcher of a replica
-- asks twice a second. Sessions that nobody has used for their idle time are closed in the database as well.

-- One row per change, never a person's id: look again at whoever works in this organization, or by this credential (a
-- login session or a federated identity); with neither, at everybody. It goes after a day.
CREATE TABLE platform.access_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_in xid8 NOT NULL DEFAULT pg_current_xact_id(), -- a reader asks what its last snapshot did not see
    tenant_id uuid,
    credential uuid,
    ended boolean NOT NULL DEFAULT false, -- the login session is over for good
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX access_changes_by_transaction ON platform.access_changes (changed_in);
CREATE INDEX access_changes_by_age ON platform.access_changes (created_at);
ALTER TABLE platform.access_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.access_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.access_changes TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.access_changes TO context_definer;

-- A trigger's argument says who is concerned: an organization (its column tenant_id), a login session or federated
-- identity (its id), the organizations of an account, or everybody.
CREATE FUNCTION platform.note_access_change() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record := CASE TG_OP WHEN 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    CASE TG_ARGV[0]
        WHEN 'organization' THEN
            INSERT INTO platform.access_changes (tenant_id) VALUES (changed.tenant_id);
        WHEN 'login' THEN
            IF TG_OP = 'UPDATE' THEN
                INSERT INTO platform.access_changes (credential, ended)
                VALUES (changed.id, NEW.revoked_at IS NOT NULL OR NEW.expires_at <= clock_timestamp());
            ELSE
                INSERT INTO platform.access_changes (credential, ended) VALUES (changed.id, true);
            END IF;
        WHEN 'identity' THEN
            INSERT INTO platform.access_changes (credential) VALUES (changed.id);
        WHEN 'account' THEN
            INSERT INTO platform.access_changes (tenant_id)
            SELECT m.tenant_id FROM app.members m WHERE m.user_id = changed.id;
        ELSE
            INSERT INTO platform.access_changes DEFAULT VALUES;
    END CASE;
    RETURN NULL;
END
$$;

-- The watcher of a replica is the system, in no organization and for no job.
CREATE FUNCTION platform.is_watcher() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(app.sealed(1) = 's', false) AND app.sealed(2) IS NULL AND app.sealed(3) IS NULL
$$;

-- What was committed since the snapshot `seen` (none of it twice, whatever else is open), this call's own snapshot for
-- the next one, and of the watched sessions those that have events behind `tips`, are closed, or are gone (seq null). One
-- whose time is up is closed by the sweep; for 10 seconds an append may still be on its way that keeps it open.
CREATE FUNCTION platform.session_watch(seen pg_snapshot, tenants uuid[], sessions uuid[], tips bigint[]) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most CONSTANT integer := 10000; -- beyond it: look at everybody
    changes json;
    counted integer;
    moved json;
BEGIN
    IF NOT platform.is_watcher() THEN
        RAISE EXCEPTION 'only for the watcher of a replica' USING ERRCODE = '42501';
    END IF;
    SELECT json_agg(json_build_array(c.tenant_id, c.credential, c.ended)), count(*) INTO changes, counted
    FROM (SELECT a.tenant_id, a.credential, a.ended FROM platform.access_changes a
          WHERE a.changed_in >= pg_snapshot_xmin(seen) AND NOT pg_visible_in_snapshot(a.changed_in, seen)
              AND pg_visible_in_snapshot(a.changed_in, pg_current_snapshot()) -- a row from a backup may be ahead
          LIMIT most) AS c;
    SELECT json_agg(json_build_array(w.tenant, w.id, s.last_seq,
                                     s.closed_at IS NOT NULL OR s.closes_at <= now() - interval '10 s'))
    INTO moved
    FROM unnest(tenants, sessions, tips) AS w (tenant, id, tip)
    LEFT JOIN app.sessions s ON s.tenant_id = w.tenant AND s.id = w.id
    WHERE s.last_seq IS NULL OR s.last_seq > w.tip OR s.closed_at IS NOT NULL
        OR s.closes_at <= now() - interval '10 s';
    RETURN json_build_object(
        'seen', pg_current_snapshot()::text, 'everybody', counted = most, 'changes', coalesce(changes, '[]'),
        'sessions', coalesce(moved, '[]'));
END
$$;

-- What app.authorize would say now: per credential [kind, organization, account, login session or hash of a key] a pair
-- of why it may not have what is needed (null: it may), and when it ends by itself (Unix seconds, null: unknown).
CREATE FUNCTION platform.session_access(credentials jsonb, needed text) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    each jsonb;
    shown uuid;
    refusal text;
    ends timestamptz;
    found json[] := '{}';
BEGIN
    IF NOT platform.is_watcher() THEN
        RAISE EXCEPTION 'only for the watcher of a replica' USING ERRCODE = '42501';
    END IF;
    FOR each IN SELECT value FROM jsonb_array_elements(credentials) LOOP
        shown := each ->> 3;
        BEGIN
            refusal := CASE WHEN each ->> 0 NOT IN ('u', 'k') THEN 'invalid_token'
                            WHEN NOT coalesce((app.credential(each ->> 0, (each ->> 1)::uuid, (each ->> 2)::uuid, shown,
                                                              false)::jsonb -> 'permissions') ? needed, false)
                                THEN 'permission_denied' END;
        EXCEPTION
            WHEN SQLSTATE 'CX401' THEN refusal := 'invalid_token';
            WHEN SQLSTATE 'CX403' THEN refusal := 'organization_suspended';
        END;
        IF each ->> 0 = 'k' THEN
            SELECT k.expires_at INTO ends FROM app.api_keys k WHERE k.key_hash = shown;
        ELSE
            SELECT s.expires_at INTO ends FROM identity.login_sessions s WHERE s.id = shown;
        END IF;
        found := found || json_build_array(refusal, extract(epoch FROM ends));
    END LOOP;
    RETURN to_json(found);
END
$$;

-- Close what nobody has used for its idle time: [[organization, session], …]. Other replicas do it at the same time. A
-- chain that somebody holds is left for the next time; one that was tampered with keeps no session open.
CREATE FUNCTION platform.close_idle_sessions(most integer, request text) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle record;
    closed jsonb := '[]';
BEGIN
    IF NOT platform.is_watcher() THEN
        RAISE EXCEPTION 'only for the watcher of a replica' USING ERRCODE = '42501';
    END IF;
    PERFORM set_config('lock_timeout', '1s', true);
    FOR idle IN
        SELECT s.tenant_id, array_agg(s.id) AS ids
        FROM (SELECT i.tenant_id, i.id FROM app.sessions i
              WHERE i.closed_at IS NULL AND i.closes_at <= now() AND platform.takes_events(i.tenant_id)
              ORDER BY i.closes_at LIMIT most FOR NO KEY UPDATE SKIP LOCKED) AS s
        GROUP BY s.tenant_id ORDER BY s.tenant_id
    LOOP
        BEGIN
            PERFORM platform.append_as('s', idle.tenant_id, NULL, NULL, (
                SELECT jsonb_agg(jsonb_build_object(
                    'action', 'session.closed', 'resource_type', 'session', 'resource_id', each, 'outcome', 'success',
                    'request_id', request, 'data', jsonb_build_object('reason', 'idle'), 'personal', NULL))
                FROM unnest(idle.ids) AS each));
        EXCEPTION
            WHEN lock_not_available THEN CONTINUE;
            WHEN unique_violation THEN
                RAISE WARNING 'the audit chain of organization % takes no event', idle.tenant_id;
        END;
        UPDATE app.sessions i SET closed_at = i.closes_at, version = i.version + 1
        WHERE i.tenant_id = idle.tenant_id AND i.id = ANY (idle.ids);
        closed := closed || (SELECT jsonb_agg(jsonb_build_array(idle.tenant_id, each)) FROM unnest(idle.ids) AS each);
    END LOOP;
    RETURN closed;
END
$$;

DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('app', 'identity', 'platform') AND p.proowner = 'context_owner'::regrole AND p.prosecdef
            AND p.proname IN ('note_access_change', 'is_watcher', 'session_watch', 'session_access',
                              'close_idle_sessions')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', made);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.note_access_change() TO context_owner;
GRANT EXECUTE ON FUNCTION platform.session_watch(pg_snapshot, uuid[], uuid[], bigint[]),
    platform.session_access(jsonb, text), platform.close_idle_sessions(integer, text) TO sessions_fn;
SET LOCAL ROLE context_owner;

-- Wherever app.credential reads: its tables and these triggers are compared by a test. Each fires for what may take
-- access away, and for nothing else: a log-in that is used writes no row.
CREATE TRIGGER access_narrows AFTER UPDATE ON identity.login_sessions FOR EACH ROW
    WHEN (old.revoked_at IS NULL AND old.expires_at > now() AND (new.revoked_at IS NOT NULL
          OR new.expires_at < old.expires_at OR new.account_id <> old.account_id OR NOT old.amr <@ new.amr))
    EXECUTE FUNCTION platform.note_access_change('login');
CREATE TRIGGER access_ends AFTER DELETE ON identity.login_sessions FOR EACH ROW
    WHEN (old.revoked_at IS NULL AND old.expires_at > now()) EXECUTE FUNCTION platform.note_access_change('login');
CREATE TRIGGER access_narrows AFTER UPDATE ON identity.federated_identities FOR EACH ROW
    WHEN (old.account_id <> new.account_id) EXECUTE FUNCTION platform.note_access_change('identity');
CREATE TRIGGER access_ends AFTER DELETE ON identity.federated_identities FOR EACH ROW
    EXECUTE FUNCTION platform.note_access_change('identity');
CREATE TRIGGER access_narrows AFTER UPDATE ON identity.accounts FOR EACH ROW
    WHEN (old.status = 'active' AND new.status <> 'active') EXECUTE FUNCTION platform.note_access_change('account');
CREATE TRIGGER access_ends AFTER DELETE ON identity.accounts FOR EACH ROW
    WHEN (old.status = 'active') EXECUTE FUNCTION platform.note_access_change('account');
CREATE TRIGGER access_narrows AFTER UPDATE ON app.members FOR EACH ROW
    WHEN (old.role IS DISTINCT FROM new.role OR old.role_id IS DISTINCT FROM new.role_id
          OR (old.tenant_id, old.user_id) <> (new.tenant_id, new.user_id))
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_ends AFTER DELETE ON app.members FOR EACH ROW
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_narrows AFTER UPDATE ON app.organizations FOR EACH ROW
    WHEN ((old.suspended_at IS NULL AND new.suspended_at IS NOT NULL)
          OR (new.settings @> '{"require_mfa": true}' AND NOT old.settings @> '{"require_mfa": true}'))
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_ends AFTER DELETE ON app.organizations FOR EACH ROW
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_narrows AFTER UPDATE ON app.roles FOR EACH ROW
    WHEN (NOT old.permissions <@ new.permissions) EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_ends AFTER DELETE ON app.roles FOR EACH ROW
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_narrows AFTER UPDATE ON platform.roles FOR EACH ROW
    WHEN (old.name <> new.name OR NOT old.permissions <@ new.permissions)
    EXECUTE FUNCTION platform.note_access_change('everybody');
CREATE TRIGGER access_ends AFTER DELETE ON platform.roles FOR EACH ROW
    EXECUTE FUNCTION platform.note_access_change('everybody');
CREATE TRIGGER access_narrows AFTER UPDATE ON app.api_keys FOR EACH ROW
    WHEN (new.expires_at < old.expires_at OR NOT old.permissions <@ new.permissions
          OR (old.created_by, old.key_hash) <> (new.created_by, new.key_hash))
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_ends AFTER DELETE ON app.api_keys FOR EACH ROW
    WHEN (old.expires_at > now()) EXECUTE FUNCTION platform.note_access_change('organization');
-- A person who is being erased from an organization is frozen there first: platform.is_frozen.
CREATE TRIGGER access_ends AFTER INSERT ON platform.deletions FOR EACH ROW
    WHEN (new.tenant_id IS NOT NULL AND new.frozen_at IS NOT NULL AND new.finished_at IS NULL)
    EXECUTE FUNCTION platform.note_access_change('organization');
CREATE TRIGGER access_narrows AFTER UPDATE ON platform.deletions FOR EACH ROW
    WHEN (new.tenant_id IS NOT NULL AND new.frozen_at IS NOT NULL AND new.finished_at IS NULL
          AND (old.frozen_at IS NULL OR old.finished_at IS NOT NULL
               OR (old.subject_id, old.tenant_id) IS DISTINCT FROM (new.subject_id, new.tenant_id)))
    EXECUTE FUNCTION platform.note_access_change('organization');
