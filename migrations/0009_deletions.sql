-- Erasure (Art. 17 GDPR): requests, steps, what was done, the certificate; and what retention removes when its time has come.

-- One request. It outlives the person as proof: `subject_id` points to nobody any more, and `reason`, `mail_to` and
-- `name_to_find` are nulled with the last mail.
CREATE TABLE platform.deletions (
    job_id uuid PRIMARY KEY REFERENCES platform.jobs ON DELETE CASCADE,
    subject_id uuid NOT NULL,
    scope text NOT NULL CHECK (scope IN ('me', 'user', 'organization')),
    reason text CHECK (length(reason) <= 1000),
    received_at timestamptz NOT NULL DEFAULT now(),
    execute_after timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    started_at timestamptz,
    frozen_at timestamptz,
    completed_at timestamptz,
    finished_at timestamptz,
    error text,
    receipt_hash bytea NOT NULL,
    mail_to text,
    name_to_find text,
    mail_claimed_until timestamptz,
    export_ids uuid[] NOT NULL DEFAULT '{}',
    objects_deleted integer NOT NULL DEFAULT 0,
    scan_places integer,
    scan_hits integer,
    certificate jsonb
);
CREATE UNIQUE INDEX deletions_one_open ON platform.deletions (subject_id) WHERE finished_at IS NULL;
CREATE INDEX deletions_newest ON platform.deletions (subject_id, received_at DESC, job_id DESC);
ALTER TABLE platform.deletions ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE platform.deletions ALTER COLUMN receipt_hash SET STATISTICS 0;
ALTER TABLE platform.deletions ALTER COLUMN mail_to SET STATISTICS 0;
ALTER TABLE platform.deletions ALTER COLUMN name_to_find SET STATISTICS 0;

CREATE TABLE platform.deletion_steps (
    job_id uuid NOT NULL REFERENCES platform.deletions ON DELETE CASCADE,
    position integer NOT NULL,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'done', 'skipped', 'failed')),
    rows bigint NOT NULL DEFAULT 0,
    at timestamptz,
    PRIMARY KEY (job_id, position),
    UNIQUE (job_id, name)
);

-- What was done to how many rows of which table: the certificate's figures, counted in the transaction that did it.
CREATE TABLE platform.deletion_counts (
    job_id uuid NOT NULL REFERENCES platform.deletions ON DELETE CASCADE,
    table_name text NOT NULL,
    action text NOT NULL CHECK (action IN ('delete', 'null', 'pseudonym', 'keep')),
    rows bigint NOT NULL,
    PRIMARY KEY (job_id, table_name, action)
);

-- The organizations of the person: `whole` goes with its only member, `keep` stays.
CREATE TABLE platform.deletion_organizations (
    job_id uuid NOT NULL REFERENCES platform.deletions ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    mode text NOT NULL CHECK (mode IN ('keep', 'whole')),
    done_at timestamptz,
    PRIMARY KEY (job_id, tenant_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['deletions', 'deletion_steps', 'deletion_counts', 'deletion_organizations'] LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON platform.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON platform.%I TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY requester ON platform.deletions FOR SELECT TO deletions_fn
    USING (subject_id = (SELECT app.principal_id()));
GRANT SELECT (job_id, subject_id, received_at) ON platform.deletions TO deletions_fn;
CREATE POLICY deletions ON platform.outbox FOR INSERT TO deletions_fn
    WITH CHECK (kind = 'workflow' AND name = 'gdpr_erasure'
                AND EXISTS (SELECT FROM platform.deletions d WHERE d.job_id = reference)); -- the person's own

-- The definer counts and searches an organization's content only under that organization's seal: the tenant policies
-- bind it like everybody else.
GRANT SELECT ON app.projects, app.tasks, app.audit_events TO context_definer;

-- The person whom the running job of the seal erases; NULL outside of one.
CREATE FUNCTION platform.erased_subject() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.subject_id FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id
    WHERE d.job_id = app.principal_id() AND app.sealed(1) = 's' AND j.status = 'running'
$$;

-- Whether the sealed job erases the sealed organization as a whole: without it nothing of a tenant can be deleted.
CREATE FUNCTION platform.erases_organization() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT app.sealed(1) = 's' AND EXISTS (
        SELECT FROM platform.deletion_organizations o
        WHERE o.job_id = app.principal_id() AND o.tenant_id = app.tenant_id() AND o.mode = 'whole')
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tasks', 'projects', 'audit_events', 'audit_heads', 'members', 'organizations'] LOOP
        EXECUTE format('CREATE POLICY erased_as_a_whole ON app.%I AS RESTRICTIVE FOR DELETE TO deletions_jobs_fn'
                       ' USING ((SELECT platform.erases_organization()))', name);
        EXECUTE format('GRANT DELETE ON app.%I TO deletions_jobs_fn', name);
    END LOOP;
END
$$;
GRANT SELECT (tenant_id, id) ON app.tasks, app.projects TO deletions_jobs_fn;
GRANT SELECT (tenant_id, seq) ON app.audit_events TO deletions_jobs_fn;
GRANT SELECT (tenant_id, user_id) ON app.members TO deletions_jobs_fn;
GRANT SELECT (tenant_id) ON app.audit_heads, app.organizations TO deletions_jobs_fn;

-- Whether an organization of the person would be left with members and no owner. Owners who are being erased themselves
-- do not count. The organizations stay locked to the end of the transaction, so that co-owners take their turn.
CREATE FUNCTION platform.is_last_owner(person uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.organizations o
    WHERE o.tenant_id IN (SELECT m.tenant_id FROM app.members m WHERE m.user_id = person)
    ORDER BY o.tenant_id FOR NO KEY UPDATE;
    RETURN EXISTS (
        SELECT FROM app.members mine
        WHERE mine.user_id = person AND mine.role = 'owner'
            AND EXISTS (SELECT FROM app.members m WHERE m.tenant_id = mine.tenant_id AND m.user_id <> person)
            AND NOT EXISTS (
                SELECT FROM app.members m JOIN identity.accounts a ON a.id = m.user_id
                WHERE m.tenant_id = mine.tenant_id AND m.user_id <> person AND m.role = 'owner'
                    AND a.status = 'active'
                    AND NOT EXISTS (SELECT FROM platform.deletions d
                                    WHERE d.subject_id = m.user_id AND d.finished_at IS NULL)));
END
$$;

-- The sealed person asks to be erased after `grace`: created, last_owner, or gone when the account is not there any more.
-- Raises a violation of deletions_one_open when a request is open already.
CREATE FUNCTION platform.open_deletion(job uuid, grace interval, receipt bytea, why text, steps text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := CASE app.sealed(1) WHEN 'u' THEN app.principal_id() END;
    account identity.accounts;
BEGIN
    IF platform.is_last_owner(person) THEN
        RETURN 'last_owner';
    END IF;
    SELECT * INTO account FROM identity.accounts a WHERE a.id = person;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    -- The heartbeat stands in the future, so that a waiting request is not taken for a stuck one.
    INSERT INTO platform.jobs (id, kind, heartbeat_at) VALUES (job, 'deletion', now() + grace);
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT job, m.tenant_id FROM app.members m WHERE m.user_id = person;
    INSERT INTO platform.deletions (job_id, subject_id, scope, reason, execute_after, due_at, receipt_hash, mail_to,
                                    name_to_find)
    VALUES (job, person, 'me', why, now() + grace, now() + interval '1 month', receipt, account.email,
            account.display_name);
    INSERT INTO platform.deletion_steps (job_id, position, name)
    SELECT job, step.ordinality, step.name FROM unnest(steps) WITH ORDINALITY AS step (name, ordinality);
    RETURN 'created';
END
$$;

CREATE FUNCTION platform.moment(value timestamptz) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(value AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- A request as the API shows it; `counts` become `retained` with the grounds of the register.
CREATE FUNCTION platform.deletion_document(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'id', d.job_id, 'scope', d.scope,
        'status', CASE j.status WHEN 'done' THEN 'completed' WHEN 'failed' THEN 'failed' WHEN 'cancelled' THEN 'cancelled'
                      WHEN 'running' THEN 'running'
                      ELSE CASE WHEN d.started_at IS NULL THEN 'scheduled' ELSE 'running' END END,
        'received_at', platform.moment(d.received_at), 'execute_after', platform.moment(d.execute_after),
        'due_at', platform.moment(d.due_at), 'completed_at', platform.moment(d.completed_at), 'error', d.error,
        'steps', (SELECT coalesce(json_agg(json_build_object(
                      'name', s.name, 'status', s.status, 'rows', s.rows, 'at', platform.moment(s.at))
                      ORDER BY s.position), '[]')
                  FROM platform.deletion_steps s WHERE s.job_id = d.job_id),
        'counts', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'rows', c.rows, 'action', c.action)
                       ORDER BY c.table_name, c.action), '[]')
                   FROM platform.deletion_counts c WHERE c.job_id = d.job_id AND c.rows > 0),
        'certificate', d.certificate)
    FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id WHERE d.job_id = job
$$;

CREATE FUNCTION platform.my_deletion(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.deletion_document(d.job_id) FROM platform.deletions d
    WHERE d.job_id = job AND d.subject_id = app.principal_id() AND app.sealed(1) = 'u'
$$;

-- By the receipt that the mail carries, of which only the hash is known here. Both sides are hashed once more, so that
-- the comparison's duration tells nothing.
CREATE FUNCTION platform.deletion_by_receipt(job uuid, given bytea) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.deletion_document(d.job_id) FROM platform.deletions d
    WHERE d.job_id = job AND sha256(d.receipt_hash) = sha256(given)
$$;

-- Call a request off while nothing has begun: cancelled, too_late, or unknown.
CREATE FUNCTION platform.cancel_deletion(job uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM platform.deletions d
    WHERE d.job_id = job AND d.subject_id = app.principal_id() AND app.sealed(1) = 'u' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    UPDATE platform.jobs j SET status = 'cancelled', finished_at = clock_timestamp()
    FROM platform.deletions d
    WHERE j.id = job AND d.job_id = job AND j.status = 'queued' AND d.started_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'too_late';
    END IF;
    UPDATE platform.deletions SET finished_at = clock_timestamp(), reason = NULL, mail_to = NULL, name_to_find = NULL
    WHERE job_id = job;
    UPDATE platform.deletion_steps SET status = 'skipped', at = clock_timestamp() WHERE job_id = job;
    RETURN 'cancelled';
END
$$;

-- What erasure will do, or has just done, to the rows of a person in the sealed organization.
CREATE FUNCTION app.subject_counts(person uuid, whole boolean)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'app.projects', CASE WHEN whole THEN 'delete' ELSE 'pseudonym' END, count(*)
    FROM app.projects p WHERE p.tenant_id = app.tenant_id() AND (whole OR p.created_by = person)
    UNION ALL
    SELECT 'app.tasks', CASE WHEN whole THEN 'delete' ELSE 'pseudonym' END, count(*)
    FROM app.tasks t WHERE t.tenant_id = app.tenant_id() AND (whole OR person IN (t.created_by, t.assignee_id))
    UNION ALL
    SELECT 'app.audit_events', CASE WHEN whole THEN 'delete' ELSE 'keep' END, count(*)
    FROM app.audit_events e WHERE e.tenant_id = app.tenant_id() AND (whole OR e.actor_id = person)
    UNION ALL
    SELECT 'app.audit_events', 'null', count(*)
    FROM app.audit_events e
    WHERE NOT whole AND e.tenant_id = app.tenant_id() AND e.personal IS NOT NULL
        AND (e.actor_id = person OR (e.actor_id IS NULL AND e.resource_id = person::text))
    UNION ALL
    SELECT 'app.audit_heads', 'delete', count(*) FROM app.audit_heads h WHERE whole AND h.tenant_id = app.tenant_id()
    UNION ALL
    SELECT 'app.members', 'delete', count(*)
    FROM app.members m WHERE m.tenant_id = app.tenant_id() AND (whole OR m.user_id = person)
    UNION ALL
    SELECT 'app.organizations', 'delete', count(*)
    FROM app.organizations o WHERE whole AND o.tenant_id = app.tenant_id()
$$;

-- The same for the platform's own tables.
CREATE FUNCTION platform.subject_counts(person uuid) RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'identity.accounts', 'delete', count(*) FROM identity.accounts a WHERE a.id = person
    UNION ALL
    SELECT 'identity.registrations', 'delete', count(*)
    FROM identity.registrations r JOIN identity.accounts a ON a.email = r.email WHERE a.id = person
    UNION ALL
    SELECT 'identity.login_sessions', 'delete', count(*) FROM identity.login_sessions s WHERE s.account_id = person
    UNION ALL
    SELECT 'identity.refresh_tokens', 'delete', count(*) FROM identity.refresh_tokens r WHERE r.account_id = person
    UNION ALL
    SELECT 'platform.exports', 'delete', count(*)
    FROM platform.exports e WHERE person IN (e.subject_account_id, e.requested_by)
    UNION ALL
    SELECT 'platform.outbox', 'delete', count(*) FROM platform.outbox o WHERE o.reference IN (SELECT platform.subject_references(person))
$$;

-- What outbox rows about the person refer to: herself, her exports, registrations with her address.
CREATE FUNCTION platform.subject_references(person uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT person
    UNION ALL
    SELECT e.id FROM platform.exports e WHERE person IN (e.subject_account_id, e.requested_by)
    UNION ALL
    SELECT r.id FROM identity.registrations r JOIN identity.accounts a ON a.email = r.email WHERE a.id = person
$$;

-- Dry run: the sealed person's rows in the platform's tables, and her organizations; suspended ones cannot be entered.
CREATE FUNCTION platform.preview_deletion() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'counts', (SELECT json_agg(json_build_object('table', c.table_name, 'action', c.action, 'rows', c.row_count))
                   FROM platform.subject_counts(app.principal_id()) c),
        'organizations', (SELECT coalesce(json_agg(m.tenant_id ORDER BY m.tenant_id), '[]')
                          FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
                          WHERE m.user_id = app.principal_id() AND o.suspended_at IS NULL))
    WHERE app.sealed(1) = 'u'
$$;

CREATE FUNCTION app.preview_deletion() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_agg(json_build_object('table', c.table_name, 'action', c.action, 'rows', c.row_count))
    FROM app.subject_counts(app.principal_id(), NOT EXISTS (
        SELECT FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id <> app.principal_id())) c
    WHERE app.sealed(1) = 'u'
$$;

CREATE FUNCTION platform.preview_last_owner() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.is_last_owner(app.principal_id()) WHERE app.sealed(1) = 'u'
$$;

-- First step of the workflow: claimed, early (the grace period is not over) or lost.
CREATE FUNCTION platform.claim_deletion(job uuid, execution text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT app.may_handle(job) THEN
        RETURN 'lost';
    ELSIF EXISTS (
        SELECT FROM platform.deletions d WHERE d.job_id = job AND d.execute_after > clock_timestamp())
    THEN
        RETURN 'early';
    ELSIF NOT platform.claim_job(job, 'deletion', execution) THEN
        RETURN 'lost';
    END IF;
    UPDATE platform.deletions SET started_at = coalesce(started_at, clock_timestamp()) WHERE job_id = job;
    RETURN 'claimed';
END
$$;

-- Where a step stands; `more` rows are added to what it has done.
CREATE FUNCTION platform.deletion_progress(step text, new_status text, more bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_steps SET status = new_status, rows = rows + more, at = clock_timestamp()
    WHERE job_id = app.principal_id() AND name = step AND platform.erased_subject() IS NOT NULL
$$;

CREATE FUNCTION platform.count_erased(counted text, done text, more bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.deletion_counts AS c (job_id, table_name, action, rows)
    SELECT app.principal_id(), counted, done, more WHERE more > 0 AND platform.erased_subject() IS NOT NULL
    ON CONFLICT (job_id, table_name, action) DO UPDATE SET rows = c.rows + excluded.rows
$$;

-- Nobody logs in as this person from here on: frozen, or last_owner when that has become true since the request.
CREATE FUNCTION platform.freeze_subject() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
BEGIN
    IF EXISTS (SELECT FROM platform.deletions WHERE job_id = app.principal_id() AND frozen_at IS NOT NULL) THEN
        RETURN 'frozen';
    ELSIF platform.is_last_owner(person) THEN
        RETURN 'last_owner';
    END IF;
    UPDATE identity.accounts SET status = 'frozen', updated_at = clock_timestamp(), version = version + 1
    WHERE id = person;
    UPDATE platform.deletions d SET frozen_at = clock_timestamp(), mail_to = a.email, name_to_find = a.display_name
    FROM identity.accounts a WHERE d.job_id = app.principal_id() AND a.id = person;
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT app.principal_id(), m.tenant_id FROM app.members m WHERE m.user_id = person
    ON CONFLICT DO NOTHING;
    UPDATE platform.exports e SET status = 'cancelled'
    WHERE person IN (e.subject_account_id, e.requested_by) AND e.status IN ('queued', 'running');
    UPDATE platform.jobs j SET status = 'cancelled', finished_at = clock_timestamp()
    FROM platform.exports e
    WHERE e.id = j.id AND person IN (e.subject_account_id, e.requested_by) AND j.status IN ('queued', 'running');
    RETURN 'frozen';
END
$$;

-- Every log-in of the person ends; the number of sessions that were open.
CREATE FUNCTION platform.revoke_subject() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH ended AS (
        UPDATE identity.login_sessions SET revoked_at = clock_timestamp()
        WHERE account_id = platform.erased_subject() AND revoked_at IS NULL
        RETURNING 1
    )
    SELECT count(*) FROM ended
$$;

CREATE FUNCTION platform.deletion_tenants() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tenant_id FROM platform.job_tenants t
    WHERE t.job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL ORDER BY t.tenant_id
$$;

-- Decide what becomes of the sealed organization: keep, whole (nobody else is a member) or done. It stays locked to the
-- end of the transaction; a whole one is suspended, so that nobody works in it any more.
CREATE FUNCTION platform.enter_organization() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    person uuid := platform.erased_subject();
    known platform.deletion_organizations;
    decided text;
BEGIN
    PERFORM FROM app.organizations o WHERE o.tenant_id = tenant FOR NO KEY UPDATE;
    SELECT * INTO known FROM platform.deletion_organizations WHERE job_id = app.principal_id() AND tenant_id = tenant;
    IF person IS NULL OR known.done_at IS NOT NULL THEN
        RETURN 'done';
    ELSIF known.mode = 'whole' THEN
        RETURN 'whole';
    ELSIF EXISTS (SELECT FROM app.members m WHERE m.tenant_id = tenant AND m.user_id <> person) THEN
        decided := 'keep';
    ELSE
        decided := 'whole';
        UPDATE app.organizations SET suspended_at = coalesce(suspended_at, clock_timestamp()) WHERE tenant_id = tenant;
    END IF;
    INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode) VALUES (app.principal_id(), tenant, decided)
    ON CONFLICT (job_id, tenant_id) DO UPDATE SET mode = decided;
    RETURN decided;
END
$$;

CREATE FUNCTION platform.organization_done() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletion_organizations SET done_at = clock_timestamp()
    WHERE job_id = app.principal_id() AND tenant_id = app.tenant_id() AND platform.erased_subject() IS NOT NULL
$$;

-- Null address and user agent of up to `most` of the person's events; their seqs. The caller appends `personal.erased`.
CREATE FUNCTION app.erase_personal(most integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
    erased bigint[];
BEGIN
    WITH hers AS (
        SELECT e.seq FROM app.audit_events e
        WHERE e.tenant_id = app.tenant_id() AND e.personal IS NOT NULL
            AND (e.actor_id = person OR (e.actor_id IS NULL AND e.resource_id = person::text))
        ORDER BY e.seq LIMIT most FOR UPDATE
    ), nulled AS (
        UPDATE app.audit_events e SET personal = NULL, personal_salt = NULL
        FROM hers WHERE e.tenant_id = app.tenant_id() AND e.seq = hers.seq
        RETURNING e.seq
    )
    SELECT array_agg(seq ORDER BY seq) INTO erased FROM nulled;
    PERFORM platform.count_erased('app.audit_events', 'null', coalesce(cardinality(erased), 0));
    RETURN coalesce(erased, '{}');
END
$$;

-- The person leaves the sealed organization, and what stays of her there is counted; her id, or NULL when she had left.
CREATE FUNCTION platform.leave_organization() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
BEGIN
    DELETE FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id = person;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM platform.count_erased('app.members', 'delete', 1);
    PERFORM platform.count_erased(c.table_name, c.action, c.row_count)
    FROM app.subject_counts(person, false) c WHERE c.action IN ('pseudonym', 'keep');
    RETURN person;
END
$$;

-- The person's exports: the folders of their objects. Remembered, since the rows go before the last look into storage.
CREATE FUNCTION platform.subject_exports() RETURNS uuid[]
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions d SET export_ids = array(
        SELECT unnest(d.export_ids)
        UNION
        SELECT e.id FROM platform.exports e WHERE d.subject_id IN (e.subject_account_id, e.requested_by))
    WHERE d.job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL
    RETURNING d.export_ids
$$;

-- How many objects are to be deleted, noted before the first one goes: a step that starts anew finds fewer.
CREATE FUNCTION platform.objects_found(found integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET objects_deleted = greatest(objects_deleted, found)
    WHERE job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL
$$;

-- Up to `most` rows of each of the platform's tables, the account last; how many rows went. 0 means that none is left.
CREATE FUNCTION platform.erase_account(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
    erased bigint;
    total bigint := 0;
BEGIN
    DELETE FROM platform.outbox WHERE id IN (
        SELECT o.id FROM platform.outbox o WHERE o.reference IN (SELECT platform.subject_references(person)) LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('platform.outbox', 'delete', erased);
    DELETE FROM identity.registrations WHERE id IN (
        SELECT r.id FROM identity.registrations r JOIN platform.deletions d ON d.mail_to = r.email
        WHERE d.job_id = app.principal_id() AND d.subject_id = person LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('identity.registrations', 'delete', erased);
    DELETE FROM platform.jobs WHERE id IN (
        SELECT e.id FROM platform.exports e WHERE person IN (e.subject_account_id, e.requested_by) LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('platform.exports', 'delete', erased);
    DELETE FROM identity.refresh_tokens WHERE token_hash IN (
        SELECT r.token_hash FROM identity.refresh_tokens r WHERE r.account_id = person LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('identity.refresh_tokens', 'delete', erased);
    DELETE FROM identity.login_sessions WHERE id IN (
        SELECT s.id FROM identity.login_sessions s WHERE s.account_id = person
            AND NOT EXISTS (SELECT FROM identity.refresh_tokens r WHERE r.login_session_id = s.id) LIMIT most);
    GET DIAGNOSTICS erased = ROW_COUNT;
    total := total + erased;
    PERFORM platform.count_erased('identity.login_sessions', 'delete', erased);
    UPDATE platform.deletions SET reason = NULL, mail_to = NULL, name_to_find = NULL
    WHERE subject_id = person AND job_id <> app.principal_id();
    IF total = 0 THEN
        DELETE FROM identity.accounts WHERE id = person;
        GET DIAGNOSTICS total = ROW_COUNT;
        PERFORM platform.count_erased('identity.accounts', 'delete', total);
    END IF;
    RETURN total;
END
$$;

-- Rows of one table that still hold an identifier of the erased person, from before the account was frozen:
-- her e-mail address anywhere; her name in a row that carries her id; in the platform's own tables her id itself.
-- Of app tables only the sealed organization's rows. What other people of the platform typed about themselves is theirs,
-- whatever it says: otherwise anybody could stop an erasure by writing the address into a name.
CREATE FUNCTION platform.scan_table(wanted text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request platform.deletions;
    place record;
    texts text[];
    ids text[];
    conditions text[] := '{}';
    scope text := 'true';
    hits bigint;
BEGIN
    SELECT d.* INTO STRICT request FROM platform.deletions d
    WHERE d.job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL;
    SELECT n.nspname AS schema, c.relname AS name, c.oid INTO STRICT place
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = wanted AND n.nspname IN ('app', 'identity', 'platform')
        AND c.relkind IN ('r', 'p');
    SELECT array_agg(format('t.%I::text', a.attname)) FILTER (WHERE a.atttypid IN (
               'text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'json'::regtype, 'text[]'::regtype)
               AND (place.schema = 'app' OR a.attname NOT IN (
                   'email', 'display_name', 'organization_name', 'user_agent'))),
           array_agg(format('t.%I', a.attname)) FILTER (WHERE a.atttypid = 'uuid'::regtype AND a.attname <> 'tenant_id')
    INTO texts, ids
    FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attnum > 0 AND NOT a.attisdropped;
    IF place.schema = 'app' THEN
        scope := 't.tenant_id = app.tenant_id()';
    ELSIF place.name = 'deletions' THEN
        scope := 't.job_id <> $5 AND t.subject_id = $3';
        ids := NULL;
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'created_at'
                   AND a.atttypid = 'timestamptz'::regtype) THEN
        scope := scope || ' AND t.created_at <= $4';
    END IF;
    IF texts IS NOT NULL THEN
        -- The cheap search first: the exact one, which knows where an address begins and ends, judges what it finds.
        conditions := conditions || format('(strpos(lower(concat_ws(E''\n'', %1$s)), $6) > 0'
                                           ' AND concat_ws(E''\n'', %1$s) ~* $1)', array_to_string(texts, ', '));
    END IF;
    IF place.schema <> 'app' AND EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = place.oid AND a.attname = 'email' AND NOT a.attisdropped)
    THEN
        conditions := conditions || 'lower(t.email) = $6'::text;
    END IF;
    IF ids IS NOT NULL AND place.schema <> 'app' THEN
        conditions := conditions || format('$3 IN (%s)', array_to_string(ids, ', '));
    ELSIF ids IS NOT NULL AND texts IS NOT NULL THEN
        conditions := conditions || format('($3 IN (%s) AND concat_ws(E''\n'', %s) ~ $2)', array_to_string(ids, ', '),
                                           array_to_string(texts, ', '));
    END IF;
    IF conditions = '{}' THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I.%I t WHERE %s AND (%s)', place.schema, place.name, scope,
                   array_to_string(conditions, ' OR '))
    INTO hits
    USING '(?<![a-z0-9._%+-])' || platform.literal_pattern(request.mail_to) || '(?![a-z0-9-]|\.[a-z0-9])',
        '(?<!\w)' || platform.literal_pattern(request.name_to_find) || '(?!\w)',
        request.subject_id, request.frozen_at, request.job_id, lower(request.mail_to);
    RETURN hits;
END
$$;

-- A regular expression that matches this text and nothing else.
CREATE FUNCTION platform.literal_pattern(literal text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT regexp_replace(literal, '([^[:alnum:][:space:]_])', '\\\1', 'g')
$$;

CREATE FUNCTION platform.scan_result(places integer, hits integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET scan_places = places, scan_hits = hits
    WHERE job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL
$$;

-- What the certificate states, and the address and name that must not be in it are not in here either.
CREATE FUNCTION platform.deletion_facts() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'deletion_id', d.job_id, 'scope', d.scope, 'completed_at', platform.moment(clock_timestamp()),
        'objects_deleted', d.objects_deleted, 'scan', json_build_object('places', d.scan_places, 'hits', d.scan_hits),
        'counts', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'rows', c.rows, 'action', c.action)
                       ORDER BY c.table_name, c.action), '[]')
                   FROM platform.deletion_counts c WHERE c.job_id = d.job_id AND c.rows > 0),
        'certificate', d.certificate)
    FROM platform.deletions d
    WHERE d.job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL
$$;

CREATE FUNCTION platform.put_certificate(issued jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET certificate = issued, completed_at = (issued ->> 'completed_at')::timestamptz
    WHERE job_id = app.principal_id() AND certificate IS NULL AND platform.erased_subject() IS NOT NULL
$$;

-- The address for the last mail, for half a minute ours alone, and the hash of the receipt that goes into it; no row when
-- it has been sent or is being sent.
CREATE FUNCTION platform.claim_deletion_mail() RETURNS TABLE (email text, receipt_hash bytea)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET mail_claimed_until = clock_timestamp() + interval '30 seconds'
    WHERE job_id = app.principal_id() AND platform.erased_subject() IS NOT NULL AND mail_to IS NOT NULL
        AND (mail_claimed_until IS NULL OR mail_claimed_until < clock_timestamp())
    RETURNING deletions.mail_to, deletions.receipt_hash
$$;

CREATE FUNCTION platform.release_deletion_mail() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET mail_claimed_until = NULL WHERE job_id = app.principal_id() AND mail_to IS NOT NULL
$$;

CREATE FUNCTION platform.deletion_mail_pending() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT mail_to IS NOT NULL FROM platform.deletions WHERE job_id = app.principal_id()
$$;

-- The last that was known of the person goes.
CREATE FUNCTION platform.forget_subject() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET reason = NULL, mail_to = NULL, name_to_find = NULL
    WHERE job_id = app.principal_id() AND certificate IS NOT NULL AND platform.erased_subject() IS NOT NULL
$$;

-- Last step: done needs the certificate and the forgotten address; failed says why, and names the step that was running.
CREATE FUNCTION platform.finish_deletion(job uuid, execution text, outcome text, why text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF outcome = 'done' AND NOT EXISTS (
        SELECT FROM platform.deletions d WHERE d.job_id = job AND d.certificate IS NOT NULL AND d.mail_to IS NULL)
    THEN
        RAISE EXCEPTION 'an erasure without certificate is not complete' USING ERRCODE = 'CX409';
    ELSIF NOT platform.finish_job(job, execution, outcome) THEN
        RETURN false;
    END IF;
    -- With the account untouched there is nothing to start anew with: the copies of address and name go at once.
    UPDATE platform.deletions SET finished_at = coalesce(finished_at, clock_timestamp()),
        error = CASE outcome WHEN 'failed' THEN why END, reason = CASE WHEN frozen_at IS NOT NULL THEN reason END,
        mail_to = CASE WHEN frozen_at IS NOT NULL THEN mail_to END,
        name_to_find = CASE WHEN frozen_at IS NOT NULL THEN name_to_find END
    WHERE job_id = job;
    UPDATE platform.deletion_steps SET status = 'failed', at = clock_timestamp()
    WHERE job_id = job AND status = 'running' AND outcome = 'failed';
    RETURN true;
END
$$;

-- An erasure that failed after the account was frozen cannot be asked for again by the person: it starts anew by itself.
CREATE FUNCTION platform.requeue_failed_deletions(pause interval) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH again AS (
        UPDATE platform.jobs SET status = 'queued', execution_id = NULL, finished_at = NULL,
            heartbeat_at = clock_timestamp()
        WHERE id IN (SELECT j.id FROM platform.jobs j JOIN platform.deletions d ON d.job_id = j.id
                     WHERE j.status = 'failed' AND d.frozen_at IS NOT NULL
                         AND j.finished_at < clock_timestamp() - pause
                     FOR UPDATE OF j SKIP LOCKED)
        RETURNING id
    ), opened AS (
        UPDATE platform.deletions SET finished_at = NULL, error = NULL WHERE job_id IN (SELECT id FROM again)
    ), sent AS (
        INSERT INTO platform.outbox (id, kind, name, reference, task_name)
        SELECT gen_random_uuid(), 'workflow', 'gdpr_erasure', id, replace(gen_random_uuid()::text, '-', '') FROM again
        RETURNING 1
    )
    SELECT count(*)::integer FROM sent
$$;

-- Up to `most` rows of a table whose time, `period` of the register, is over.
CREATE FUNCTION platform.retire(wanted text, period interval, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    edge timestamptz := clock_timestamp() - period;
    retired integer;
BEGIN
    IF period < interval '0' THEN
        RAISE EXCEPTION 'a period is not negative' USING ERRCODE = '22023';
    END IF;
    CASE wanted
        WHEN 'identity.refresh_tokens' THEN
            DELETE FROM identity.refresh_tokens WHERE token_hash IN (
                SELECT r.token_hash FROM identity.refresh_tokens r WHERE r.expires_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'identity.login_sessions' THEN
            DELETE FROM identity.login_sessions WHERE id IN (
                SELECT s.id FROM identity.login_sessions s WHERE s.expires_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'identity.registrations' THEN
            DELETE FROM identity.registrations WHERE id IN (
                SELECT r.id FROM identity.registrations r WHERE r.expires_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'platform.outbox' THEN
            DELETE FROM platform.outbox WHERE id IN (
                SELECT o.id FROM platform.outbox o WHERE o.created_at < edge AND o.sent_at < edge
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'platform.exports' THEN
            DELETE FROM platform.jobs WHERE id IN (
                SELECT e.id FROM platform.exports e WHERE e.requested_at < edge AND e.removed_at IS NOT NULL
                LIMIT most FOR UPDATE SKIP LOCKED);
        WHEN 'platform.deletions' THEN
            DELETE FROM platform.jobs WHERE id IN (
                SELECT d.job_id FROM platform.deletions d
                WHERE d.received_at < edge AND d.finished_at IS NOT NULL
                LIMIT most FOR UPDATE SKIP LOCKED);
    END CASE;
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;

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

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.erased_subject()', 'platform.erases_organization()', 'platform.is_last_owner(uuid)',
        'platform.open_deletion(uuid, interval, bytea, text, text[])', 'platform.deletion_document(uuid)',
        'platform.my_deletion(uuid)', 'platform.deletion_by_receipt(uuid, bytea)', 'platform.cancel_deletion(uuid)',
        'app.subject_counts(uuid, boolean)', 'platform.subject_counts(uuid)', 'platform.subject_references(uuid)',
        'platform.preview_deletion()', 'app.preview_deletion()', 'platform.preview_last_owner()',
        'platform.claim_deletion(uuid, text)', 'platform.deletion_progress(text, text, bigint)',
        'platform.count_erased(text, text, bigint)', 'platform.freeze_subject()', 'platform.revoke_subject()',
        'platform.deletion_tenants()', 'platform.enter_organization()', 'platform.organization_done()',
        'app.erase_personal(integer)', 'platform.leave_organization()', 'platform.subject_exports()',
        'platform.objects_found(integer)', 'platform.erase_account(integer)', 'platform.scan_table(text)',
        'platform.literal_pattern(text)', 'platform.scan_result(integer, integer)', 'platform.deletion_facts()',
        'platform.put_certificate(jsonb)', 'platform.claim_deletion_mail()', 'platform.release_deletion_mail()',
        'platform.deletion_mail_pending()', 'platform.export_deletions()',
        'platform.forget_subject()', 'platform.finish_deletion(uuid, text, text, text)', 'platform.moment(timestamptz)',
        'platform.requeue_failed_deletions(interval)', 'platform.retire(text, interval, integer)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.open_deletion(uuid, interval, bytea, text, text[]), platform.my_deletion(uuid),
    platform.deletion_by_receipt(uuid, bytea), platform.cancel_deletion(uuid), platform.preview_deletion(),
    app.preview_deletion(), platform.preview_last_owner() TO deletions_fn;
GRANT EXECUTE ON FUNCTION platform.claim_deletion(uuid, text), platform.deletion_progress(text, text, bigint),
    platform.count_erased(text, text, bigint), platform.freeze_subject(), platform.revoke_subject(),
    platform.deletion_tenants(), platform.enter_organization(), platform.organization_done(),
    app.erase_personal(integer), platform.leave_organization(), platform.subject_exports(),
    platform.objects_found(integer), platform.erase_account(integer), platform.scan_table(text),
    platform.scan_result(integer, integer), platform.deletion_facts(), platform.put_certificate(jsonb),
    platform.claim_deletion_mail(), platform.release_deletion_mail(), platform.deletion_mail_pending(),
    platform.forget_subject(),
    platform.finish_deletion(uuid, text, text, text), platform.erases_organization() TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.export_deletions() TO exports_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.requeue_failed_deletions(interval), platform.retire(text, interval, integer)
    TO retention_fn;
SET LOCAL ROLE context_owner;
