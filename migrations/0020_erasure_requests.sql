-- Requests for erasure: scopes, children per membership, policies, approval, legal holds, follow-ups, states.

-- What legal holds keep of an erasure for now, counted when all else was gone: shown as `retained`. An account that stays
-- belongs to no organization.
CREATE TABLE platform.deletion_held (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id uuid NOT NULL REFERENCES platform.deletions ON DELETE CASCADE,
    tenant_id uuid,
    table_name text NOT NULL,
    rows bigint NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX deletion_held_of_job ON platform.deletion_held (job_id);
ALTER TABLE platform.deletion_held ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform.deletion_held FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON platform.deletion_held TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON platform.deletion_held TO context_definer;
CREATE INDEX deletions_by_follower ON platform.deletions (follows) WHERE follows IS NOT NULL;

-- A request is there for the person whom it is about, and in its organization for who made it and who may make such.
DROP POLICY requester ON platform.deletions;
CREATE POLICY concerned ON platform.deletions FOR SELECT TO deletions_fn
    USING (subject_id = (SELECT app.principal_id())
           OR (tenant_id = (SELECT app.tenant_id())
               AND (requested_by = (SELECT app.principal_id())
                    OR (SELECT app.sealed_holds(ARRAY['deletion.create']))
                    OR (scope = 'organization' AND (SELECT app.sealed_holds(ARRAY['organizations.delete']))))));

-- Legal holds: placed and lifted by who may, for a person of this organization; never changed otherwise.
CREATE POLICY placer ON app.legal_holds AS RESTRICTIVE FOR INSERT TO deletions_fn
    WITH CHECK (created_by = (SELECT app.principal_id()) AND (SELECT app.sealed_holds(ARRAY['legalhold.manage']))
                AND app.is_subject(subject_user_id));
CREATE POLICY lifter ON app.legal_holds AS RESTRICTIVE FOR UPDATE TO deletions_fn
    USING ((SELECT app.sealed_holds(ARRAY['legalhold.manage'])))
    WITH CHECK ((SELECT app.sealed_holds(ARRAY['legalhold.manage'])));
GRANT SELECT, INSERT (tenant_id, subject_user_id, reason, until, resources, created_by),
    UPDATE (released_at, version) ON app.legal_holds TO deletions_fn;
GRANT SELECT (tenant_id, id) ON app.projects, app.tasks TO deletions_fn;
GRANT SELECT (tenant_id, user_id) ON app.members TO deletions_fn;
GRANT EXECUTE ON FUNCTION platform.utc(timestamptz) TO deletions_fn;

-- A legal hold as the API shows it.
CREATE FUNCTION platform.hold_json(h app.legal_holds) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', (h).id, 'subject_user_id', (h).subject_user_id, 'reason', (h).reason, 'until', platform.utc((h).until),
    'resources', (h).resources,
    'status', CASE WHEN (h).released_at IS NOT NULL THEN 'released' WHEN (h).until <= now() THEN 'ended' ELSE 'active' END,
    'created_by', (h).created_by, 'created_at', platform.utc((h).created_at),
    'released_at', platform.utc((h).released_at), 'version', (h).version);
GRANT EXECUTE ON FUNCTION platform.hold_json(app.legal_holds) TO deletions_fn;

-- Whether a person's part in an organization is frozen: her erasure there has begun, or a legal hold keeps what is left.
CREATE FUNCTION platform.is_frozen(person uuid, tenant uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM platform.deletions d
                   WHERE coalesce(d.subject_id, d.tenant_id) = person AND d.finished_at IS NULL
                       AND coalesce(d.tenant_id, '00000000-0000-0000-0000-000000000000') = tenant
                       AND d.frozen_at IS NOT NULL)
$$;

-- Whether a hold keeps everything about a person in an organization.
CREATE FUNCTION platform.is_wholly_held(person uuid, tenant uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM app.legal_holds h
                   WHERE h.tenant_id = tenant AND h.subject_user_id = person AND h.resources IS NULL
                       AND h.released_at IS NULL AND h.until > clock_timestamp())
$$;

-- When the first of the holds ends: on a person (NULL: on anybody) in an organization (NULL: in any).
CREATE FUNCTION platform.next_hold_end(person uuid, tenant uuid) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(h.until) FROM app.legal_holds h
    WHERE (person IS NULL OR h.subject_user_id = person) AND (tenant IS NULL OR h.tenant_id = tenant)
        AND num_nonnulls(person, tenant) > 0 AND h.released_at IS NULL AND h.until > clock_timestamp()
$$;

-- Whether holds leave an erasure nothing to do: in its organization, or in every one of the person's.
CREATE FUNCTION platform.leaves_nothing(wanted text, person uuid, tenant uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE wanted
        WHEN 'user' THEN platform.is_wholly_held(person, tenant)
        WHEN 'me' THEN (SELECT coalesce(bool_and(platform.is_wholly_held(person, m.tenant_id)), false)
                        FROM app.members m WHERE m.user_id = person)
        ELSE false END
$$;

-- Another owner who stays: active, and not about to be erased here or everywhere.
CREATE FUNCTION platform.has_other_owner(person uuid, tenant uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM app.members m JOIN identity.accounts a ON a.id = m.user_id
        WHERE m.tenant_id = tenant AND m.user_id <> person AND m.role = 'owner' AND a.status = 'active'
            AND NOT EXISTS (SELECT FROM platform.deletions d
                            WHERE d.subject_id = m.user_id AND d.finished_at IS NULL
                                AND (d.tenant_id IS NULL OR d.tenant_id = tenant)))
$$;

SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION app.has_other_owner(person uuid) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.has_other_owner(person, app.tenant_id())
$$;

CREATE OR REPLACE FUNCTION platform.is_last_owner(person uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.organizations o
    WHERE o.tenant_id IN (SELECT m.tenant_id FROM app.members m WHERE m.user_id = person)
    ORDER BY o.tenant_id FOR NO KEY UPDATE;
    RETURN EXISTS (
        SELECT FROM app.members mine
        WHERE mine.user_id = person AND mine.role = 'owner'
            AND EXISTS (SELECT FROM app.members m WHERE m.tenant_id = mine.tenant_id AND m.user_id <> person)
            AND NOT platform.has_other_owner(person, mine.tenant_id));
END
$$;
SET LOCAL ROLE context_owner;

-- Whether the sealed caller may have this erased, and whether it can be: ok, denied, unknown, lacks (the person holds what
-- the caller lacks), last_owner, running, gone (the account), or legal_hold. The organizations stay locked.
CREATE FUNCTION platform.check_deletion(wanted text, person uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := coalesce(app.sealed(1), '');
    caller uuid := app.principal_id();
    tenant uuid := app.tenant_id();
    member app.members;
BEGIN
    IF kind <> 'u' OR caller IS NULL THEN
        RETURN 'denied';
    ELSIF wanted = 'me' THEN
        IF platform.is_last_owner(caller) THEN
            RETURN 'last_owner';
        ELSIF NOT EXISTS (SELECT FROM identity.accounts a WHERE a.id = caller) THEN
            RETURN 'gone';
        END IF;
        RETURN CASE WHEN platform.leaves_nothing('me', caller, NULL) THEN 'legal_hold' ELSE 'ok' END;
    END IF;
    PERFORM FROM app.organizations o WHERE o.tenant_id = tenant FOR NO KEY UPDATE;
    IF wanted = 'organization' THEN
        RETURN CASE WHEN app.sealed_holds(ARRAY['organizations.delete']) THEN 'ok' ELSE 'denied' END;
    ELSIF wanted <> 'user' OR NOT app.sealed_holds(ARRAY['deletion.create']) THEN
        RETURN 'denied';
    END IF;
    IF NOT coalesce(app.is_subject(person), false) THEN -- nothing is told of people of other organizations
        RETURN 'unknown';
    ELSIF EXISTS (SELECT FROM platform.deletions d WHERE d.subject_id = person AND d.tenant_id IS NULL
                      AND d.finished_at IS NULL AND d.frozen_at IS NOT NULL) THEN
        RETURN 'running';
    END IF;
    SELECT m.* INTO member FROM app.members m WHERE m.tenant_id = tenant AND m.user_id = person;
    IF NOT FOUND THEN -- she may have left, and her rows not
        RETURN CASE WHEN platform.leaves_nothing('user', person, tenant) THEN 'legal_hold' ELSE 'ok' END;
    ELSIF person <> caller AND NOT app.sealed_may_give(member.role, member.role_id) THEN
        RETURN 'lacks';
    ELSIF member.role = 'owner' AND NOT platform.has_other_owner(person, tenant) THEN
        RETURN 'last_owner';
    END IF;
    RETURN CASE WHEN platform.leaves_nothing('user', person, tenant) THEN 'legal_hold' ELSE 'ok' END;
END
$$;

-- What an erasure does, in this order: a person's own has children, the others have rows.
CREATE FUNCTION platform.steps_of(wanted text) RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN CASE wanted
    WHEN 'me' THEN ARRAY['plan', 'freeze', 'revoke', 'organizations', 'objects', 'account', 'children', 'processors',
                         'scan', 'certificate', 'notify']
    ELSE ARRAY['plan', 'freeze', 'revoke', 'rows', 'objects', 'processors', 'scan', 'certificate', 'notify'] END;

-- A message that starts the workflow for a job, not before `start`.
CREATE FUNCTION platform.post_erasure(job uuid, start timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.outbox (id, kind, name, reference, task_name, not_before)
    VALUES (gen_random_uuid(), 'workflow', 'gdpr_erasure', job, replace(gen_random_uuid()::text, '-', ''), start)
    RETURNING id
$$;

-- The row, the job and the steps of an erasure that begins at `start`. Raises a violation of deletions_one_open when one
-- is open already. The heartbeat stands in the future, so that a waiting request is not taken for a stuck one.
CREATE FUNCTION platform.schedule_deletion(job uuid, wanted text, person uuid, tenant uuid, start timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO platform.jobs (id, kind, heartbeat_at) VALUES (job, 'deletion', start);
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT job, tenant WHERE tenant IS NOT NULL
    UNION
    SELECT job, m.tenant_id FROM app.members m WHERE tenant IS NULL AND m.user_id = person;
    INSERT INTO platform.deletions (job_id, subject_id, tenant_id, scope, execute_after, due_at, receipt_hash, mail_to,
                                    name_to_find)
    SELECT job, person, tenant, wanted, start, now() + interval '1 month', '', a.email, a.display_name
    FROM (VALUES (1)) AS one LEFT JOIN identity.accounts a ON a.id = person;
    INSERT INTO platform.deletion_steps (job_id, position, name)
    SELECT job, step.ordinality, step.name FROM unnest(platform.steps_of(wanted)) WITH ORDINALITY AS step (name, ordinality);
END
$$;

-- The mail about a request to one of its people; its id can be made again from both.
CREATE FUNCTION platform.mail_about(job uuid, person uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN left(encode(sha256(uuid_send(job) || uuid_send(person)), 'hex'), 32)::uuid;

-- Tell whom a request concerns: the person, or each owner of the organization.
CREATE FUNCTION platform.post_mails_about(job uuid, purpose text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO platform.outbox (id, kind, name, reference, task_name)
    SELECT platform.mail_about(job, told.person), 'mail', purpose, job, replace(gen_random_uuid()::text, '-', '')
    FROM (SELECT d.subject_id AS person FROM platform.deletions d WHERE d.job_id = job AND d.scope <> 'organization'
          UNION
          SELECT m.user_id FROM platform.deletions d JOIN app.members m ON m.tenant_id = d.tenant_id AND m.role = 'owner'
          WHERE d.job_id = job AND d.scope = 'organization') AS told
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, sent_at = NULL, delivered_at = NULL,
        task_name = excluded.task_name
$$;

-- The sealed caller asks: ok, or why not (see check_deletion). A hold that keeps everything is recorded as a refusal.
-- `came` is api or letter; a letter waits for approval, and so does every request where the organization wants that.
CREATE FUNCTION platform.request_deletion(
    job uuid, wanted text, person uuid, grace interval, receipt bytea, why text, came text, arrived timestamptz
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    outcome text := platform.check_deletion(wanted, person);
    caller uuid := app.principal_id();
    tenant uuid := CASE WHEN wanted <> 'me' THEN app.tenant_id() END;
    subject uuid := CASE wanted WHEN 'me' THEN caller WHEN 'user' THEN person END;
    begun timestamptz := coalesce(arrived, now());
    wish text := (SELECT o.settings ->> 'erasure_policy' FROM app.organizations o
                  WHERE wanted = 'user' AND o.tenant_id = tenant);
BEGIN
    IF outcome NOT IN ('ok', 'legal_hold') THEN
        RETURN outcome;
    ELSIF (came IN ('api', 'letter')) IS NOT TRUE THEN -- the other channels are no caller's
        RETURN 'denied';
    END IF;
    PERFORM platform.schedule_deletion(job, wanted, subject, tenant, now() + grace);
    UPDATE platform.deletions SET requested_by = caller, channel = came, receipt_hash = receipt, reason = why,
        received_at = begun, due_at = begun + interval '1 month',
        policy = CASE WHEN wanted = 'user' AND wish = 'erase' THEN 'erase'
                      WHEN wanted = 'user' AND came <> 'letter' AND wish IS DISTINCT FROM 'approve'
                      THEN 'keep_pseudonymous' END,
        approval_needed = came = 'letter' OR coalesce(wish = 'approve', false),
        mail_to = CASE WHEN wanted = 'organization'
                       THEN (SELECT a.email FROM identity.accounts a WHERE a.id = caller) ELSE mail_to END
    WHERE job_id = job;
    IF outcome = 'legal_hold' THEN
        PERFORM platform.refuse_deletion(job);
    ELSE
        UPDATE platform.jobs SET heartbeat_at = greatest(heartbeat_at, d.due_at)
        FROM platform.deletions d WHERE id = job AND d.job_id = job AND d.approval_needed;
        IF wanted <> 'me' THEN
            PERFORM platform.post_mails_about(job, 'deletion_received');
        END IF;
    END IF;
    RETURN outcome;
END
$$;

-- Nothing can be erased for now: the request ends as refused, its person is told why (Art. 12(4)), its parent goes on.
CREATE FUNCTION platform.refuse_deletion(job uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refused platform.deletions;
BEGIN
    UPDATE platform.jobs SET status = 'cancelled', finished_at = clock_timestamp() WHERE id = job;
    UPDATE platform.deletions d SET finished_at = clock_timestamp(), reason = NULL, mail_to = NULL, name_to_find = NULL,
        phones_to_find = '{}',
        refused_reason = 'legal hold, until ' || platform.moment((
            SELECT max(h.until) FROM app.legal_holds h
            WHERE h.subject_user_id = d.subject_id AND (d.tenant_id IS NULL OR h.tenant_id = d.tenant_id)
                AND h.resources IS NULL AND h.released_at IS NULL))
    WHERE d.job_id = job RETURNING * INTO refused;
    UPDATE platform.deletion_steps SET status = 'skipped', at = clock_timestamp() WHERE job_id = job;
    IF refused.parent_id IS NULL THEN
        PERFORM platform.post_mails_about(job, 'deletion_refused');
    END IF;
    PERFORM platform.wake_parent(refused.parent_id);
END
$$;

-- A parent that rests until its children are done goes on once the last of them is; the message that starts it.
CREATE FUNCTION platform.wake_parent(parent uuid) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF parent IS NULL THEN
        RETURN NULL;
    END IF;
    -- Locked before the children are read, by each of them and by the parent itself: the last one sees all others.
    PERFORM FROM platform.jobs j WHERE j.id = parent FOR UPDATE;
    IF platform.has_open_children(parent) OR NOT EXISTS (
        SELECT FROM platform.jobs j JOIN platform.deletions d ON d.job_id = j.id
        WHERE j.id = parent AND j.status = 'queued' AND d.started_at IS NOT NULL)
    THEN
        RETURN NULL;
    END IF;
    UPDATE platform.jobs SET heartbeat_at = clock_timestamp() WHERE id = parent;
    RETURN platform.post_erasure(parent, now());
END
$$;

-- A child that failed starts anew by itself: it is not over.
CREATE FUNCTION platform.has_open_children(parent uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id
                   WHERE d.parent_id = parent AND j.status NOT IN ('done', 'cancelled'))
$$;

-- The organization of a request that waits lets it begin: approved, unknown, over, or lacks (the person holds by now what
-- the caller lacks; her own wish needs no more than the right). `chosen` is a policy, NULL the default.
CREATE FUNCTION platform.approve_deletion(job uuid, chosen text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting platform.deletions;
BEGIN
    PERFORM FROM platform.jobs j WHERE j.id = job FOR UPDATE;
    SELECT d.* INTO waiting FROM platform.deletions d
    WHERE d.job_id = job AND d.tenant_id = app.tenant_id() AND app.sealed(1) = 'u'
        AND app.sealed_holds(ARRAY['deletion.create']) FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF NOT waiting.approval_needed OR waiting.approved_at IS NOT NULL OR waiting.finished_at IS NOT NULL THEN
        RETURN 'over';
    ELSIF waiting.parent_id IS NULL AND waiting.subject_id <> app.principal_id() AND EXISTS (
        SELECT FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id = waiting.subject_id
            AND NOT app.sealed_may_give(m.role, m.role_id))
    THEN
        RETURN 'lacks';
    END IF;
    UPDATE platform.deletions SET approved_at = clock_timestamp(), approved_by = app.principal_id(),
        policy = coalesce(chosen, policy, 'keep_pseudonymous')
    WHERE job_id = job;
    UPDATE platform.jobs SET heartbeat_at = greatest(waiting.execute_after, clock_timestamp()) WHERE id = job;
    PERFORM platform.post_erasure(job, greatest(waiting.execute_after, now()));
    RETURN 'approved';
END
$$;

-- Call a request off while nothing has begun: cancelled, too_late, or unknown. A child or follow-up answers a request
-- that was carried out already.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.cancel_deletion(job uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM platform.jobs j WHERE j.id = job FOR UPDATE; -- the job first, as every step does
    IF NOT platform.may_cancel(job) THEN
        RETURN 'unknown';
    END IF;
    UPDATE platform.jobs j SET status = 'cancelled', finished_at = clock_timestamp()
    FROM platform.deletions d
    WHERE j.id = job AND d.job_id = job AND j.status = 'queued' AND d.started_at IS NULL
        AND d.channel IN ('api', 'letter') AND d.parent_id IS NULL;
    IF NOT FOUND THEN
        RETURN 'too_late';
    END IF;
    UPDATE platform.deletions SET finished_at = clock_timestamp(), reason = NULL, mail_to = NULL, name_to_find = NULL
    WHERE job_id = job;
    UPDATE platform.deletion_steps SET status = 'skipped', at = clock_timestamp() WHERE job_id = job;
    RETURN 'cancelled';
END
$$;
SET LOCAL ROLE context_owner;

-- Who sees a request, and who may call it off: the person of her own, of another the holders of what asking takes.
CREATE FUNCTION platform.may_see(d platform.deletions) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(app.sealed(1) IN ('u', 'k') AND (
        ((d).subject_id = app.principal_id() AND app.sealed(1) <> 'k')
        OR ((d).tenant_id = app.tenant_id()
            AND ((d).requested_by = app.principal_id() OR app.sealed_holds(ARRAY['deletion.create'])
                 OR ((d).scope = 'organization' AND app.sealed_holds(ARRAY['organizations.delete']))))), false)
$$;
CREATE FUNCTION platform.may_cancel(job uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT CASE d.scope WHEN 'me' THEN true
                   ELSE d.tenant_id = app.tenant_id() AND app.sealed_holds(ARRAY[
                       CASE d.scope WHEN 'user' THEN 'deletion.create' ELSE 'organizations.delete' END]) END
        FROM platform.deletions d WHERE d.job_id = job AND platform.may_see(d)), false)
$$;

-- A request as the API shows it. `counts` become `retained` with the grounds of the register; of a parent they hold the
-- children's. What holds keep says until when.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.deletion_document(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'id', d.job_id, 'scope', d.scope, 'status', platform.deletion_status(d, j.status),
        'subject_user_id', d.subject_id, 'organization_id', d.tenant_id, 'parent_id', d.parent_id,
        'follows', d.follows,
        'followed_by', (SELECT f.job_id FROM platform.deletions f WHERE f.follows = d.job_id
                        ORDER BY f.received_at DESC LIMIT 1),
        'received_at', platform.moment(d.received_at), 'execute_after', platform.moment(d.execute_after),
        'due_at', platform.moment(d.due_at), 'completed_at', platform.moment(d.completed_at), 'error', d.error,
        'refusal', d.refused_reason,
        'steps', (SELECT coalesce(json_agg(json_build_object(
                      'name', s.name, 'status', s.status, 'rows', s.rows, 'at', platform.moment(s.at))
                      ORDER BY s.position), '[]')
                  FROM platform.deletion_steps s WHERE s.job_id = d.job_id),
        'processors', platform.told_processors(d.job_id),
        'counts', platform.counts_of(d.job_id), 'held', platform.held_of(d.job_id), 'certificate', d.certificate)
    FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id WHERE d.job_id = job
$$;

CREATE OR REPLACE FUNCTION platform.my_deletion(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.deletion_document(d.job_id) FROM platform.deletions d WHERE d.job_id = job AND platform.may_see(d)
$$;

-- A receipt opens what followed the erasure that it was given for as well.
CREATE OR REPLACE FUNCTION platform.deletion_by_receipt(job uuid, given bytea) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE chain AS (
        SELECT d.job_id, d.follows, d.receipt_hash FROM platform.deletions d WHERE d.job_id = job
        UNION
        SELECT d.job_id, d.follows, d.receipt_hash FROM platform.deletions d JOIN chain c ON d.job_id = c.follows
    )
    SELECT platform.deletion_document(job) WHERE EXISTS (
        SELECT FROM chain c WHERE length(c.receipt_hash) = 32 AND sha256(c.receipt_hash) = sha256(given))
$$;
SET LOCAL ROLE context_owner;

CREATE FUNCTION platform.deletion_status(d platform.deletions, job_status text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN (d).refused_reason IS NOT NULL THEN 'refused'
    WHEN job_status = 'done' THEN 'completed'
    WHEN job_status IN ('failed', 'cancelled', 'running') THEN job_status
    WHEN (d).started_at IS NOT NULL THEN 'running'
    WHEN (d).approval_needed AND (d).approved_at IS NULL THEN 'awaiting_approval'
    ELSE 'scheduled' END;

-- What was done to how many rows, by a job and its children.
CREATE FUNCTION platform.counts_of(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'rows', c.rows, 'action', c.action)
                             ORDER BY c.table_name, c.action), '[]')
    FROM (SELECT k.table_name, k.action, sum(k.rows)::bigint AS rows
          FROM platform.deletion_counts k JOIN platform.deletions d ON d.job_id = k.job_id
          WHERE (d.job_id = job OR d.parent_id = job) AND k.rows > 0
          GROUP BY k.table_name, k.action) AS c
$$;

CREATE FUNCTION platform.held_of(job uuid) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('table', h.table_name, 'rows', h.rows, 'until', platform.moment(h.until))
                             ORDER BY h.table_name, h.until), '[]')
    FROM (SELECT k.table_name, k.until, sum(k.rows)::bigint AS rows
          FROM platform.deletion_held k JOIN platform.deletions d ON d.job_id = k.job_id
          WHERE d.job_id = job OR d.parent_id = job GROUP BY k.table_name, k.until) AS h
$$;

-- First step of the workflow: claimed, early (it is not due), waiting (for approval), refused (holds leave it nothing to
-- do) or lost. A part of a person's own erasure that nobody decides about in time keeps what is not hers alone.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.claim_deletion(job uuid, execution text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state text;
    d platform.deletions;
    hold_ends timestamptz;
BEGIN
    IF NOT app.may_handle(job) THEN
        RETURN 'lost';
    END IF;
    SELECT j.status INTO state FROM platform.jobs j WHERE j.id = job AND j.kind = 'deletion' FOR UPDATE;
    SELECT * INTO d FROM platform.deletions x WHERE x.job_id = job;
    IF d.execute_after > clock_timestamp() THEN
        RETURN 'early';
    ELSIF state = 'queued' AND d.approval_needed AND d.approved_at IS NULL THEN
        IF d.parent_id IS NULL OR d.due_at > clock_timestamp() THEN
            UPDATE platform.jobs SET heartbeat_at = greatest(d.due_at, clock_timestamp() + interval '1 day')
            WHERE id = job;
            RETURN 'waiting';
        END IF;
        UPDATE platform.deletions SET approval_needed = false, policy = 'keep_pseudonymous' WHERE job_id = job;
    END IF;
    IF state = 'queued' AND d.started_at IS NULL AND platform.leaves_nothing(d.scope, d.subject_id, d.tenant_id) THEN
        IF d.channel NOT IN ('hold_end', 'replay') OR d.parent_id IS NOT NULL THEN -- its parent waits for it
            PERFORM platform.refuse_deletion(job);
            RETURN 'refused';
        END IF;
        hold_ends := platform.next_hold_end(d.subject_id, d.tenant_id);
        UPDATE platform.deletions SET execute_after = hold_ends WHERE job_id = job;
        UPDATE platform.jobs SET heartbeat_at = hold_ends WHERE id = job;
        PERFORM platform.post_erasure(job, hold_ends);
        RETURN 'early';
    ELSIF NOT platform.claim_job(job, 'deletion', execution) THEN
        RETURN 'lost';
    END IF;
    UPDATE platform.deletions SET started_at = coalesce(started_at, clock_timestamp()) WHERE job_id = job;
    RETURN 'claimed';
END
$$;

-- From here on nobody works as this person (in this organization), or in this organization: frozen, or last_owner when
-- that has become true since the request. What was decided already is not asked again.
CREATE OR REPLACE FUNCTION platform.freeze_subject() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
BEGIN
    SELECT s.* INTO STRICT d FROM platform.sealed_deletion() s;
    IF d.frozen_at IS NOT NULL AND d.channel <> 'hold_end' THEN
        RETURN 'frozen';
    ELSIF d.channel NOT IN ('hold_end', 'replay', 'child') AND d.parent_id IS NULL THEN
        IF d.scope = 'me' AND platform.is_last_owner(d.subject_id) THEN
            RETURN 'last_owner';
        ELSIF d.scope = 'user' THEN
            PERFORM FROM app.organizations o WHERE o.tenant_id = d.tenant_id FOR NO KEY UPDATE;
            IF EXISTS (SELECT FROM app.members m
                       WHERE m.tenant_id = d.tenant_id AND m.user_id = d.subject_id AND m.role = 'owner')
                AND NOT platform.has_other_owner(d.subject_id, d.tenant_id)
            THEN
                RETURN 'last_owner';
            END IF;
        END IF;
    END IF;
    IF d.scope = 'me' THEN
        UPDATE identity.accounts SET status = 'frozen', updated_at = clock_timestamp(), version = version + 1
        WHERE id = d.subject_id AND status <> 'frozen';
        INSERT INTO platform.job_tenants (job_id, tenant_id)
        SELECT d.job_id, m.tenant_id FROM app.members m WHERE m.user_id = d.subject_id
        UNION
        SELECT d.job_id, o.tenant_id FROM platform.deletions o
        WHERE o.subject_id = d.subject_id AND o.tenant_id IS NOT NULL AND o.finished_at IS NULL
        ON CONFLICT DO NOTHING;
    ELSIF d.scope = 'organization' THEN
        UPDATE app.organizations SET suspended_at = coalesce(suspended_at, clock_timestamp())
        WHERE tenant_id = d.tenant_id;
        INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode) VALUES (d.job_id, d.tenant_id, 'whole')
        ON CONFLICT DO NOTHING;
    END IF;
    UPDATE platform.deletions x SET frozen_at = coalesce(x.frozen_at, clock_timestamp()) WHERE x.job_id = d.job_id;
    UPDATE platform.deletions x SET mail_to = a.email, name_to_find = a.display_name,
        phones_to_find = ARRAY(SELECT f.phone FROM identity.mfa_factors f WHERE f.account_id = d.subject_id AND f.phone IS NOT NULL)
    FROM identity.accounts a
    WHERE x.job_id = d.job_id AND d.certificate IS NULL
        AND a.id = CASE d.scope WHEN 'organization' THEN d.requested_by ELSE d.subject_id END;
    PERFORM platform.stop_exports();
    RETURN 'frozen';
END
$$;
SET LOCAL ROLE context_owner;

-- The exports that hold what the sealed job erases: a person's own and those she asked for; about her in the
-- organization, and of the organization, which has her in it.
CREATE FUNCTION platform.exports_concerned() RETURNS SETOF platform.exports
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.* FROM platform.exports e, platform.sealed_deletion() d
    WHERE CASE d.scope
        WHEN 'me' THEN d.subject_id IN (e.subject_account_id, e.requested_by)
        ELSE e.organization_id = d.tenant_id
            AND (e.scope = 'organization'
                 OR (e.scope = 'user' AND (d.subject_id IS NULL OR e.subject_account_id = d.subject_id))) END
$$;

-- None of them goes on, and none is there to be downloaded any more. The jobs first, as every step does.
CREATE FUNCTION platform.stop_exports() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE platform.jobs j SET status = 'cancelled', finished_at = clock_timestamp()
    WHERE j.id IN (SELECT e.id FROM platform.exports_concerned() e) AND j.status IN ('queued', 'running');
    UPDATE platform.exports x SET error = 'erased', expires_at = least(x.expires_at, clock_timestamp()),
        status = CASE x.status WHEN 'ready' THEN 'expired' ELSE 'cancelled' END
    WHERE x.id IN (SELECT e.id FROM platform.exports_concerned() e) AND x.status IN ('queued', 'running', 'ready');
END
$$;

SET LOCAL ROLE context_definer;
-- Every log-in of the person ends (in the organization; of everybody, when it goes itself), and every API key of hers.
CREATE OR REPLACE FUNCTION platform.revoke_subject() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
    sessions bigint;
    keys bigint;
    challenges bigint;
BEGIN
    SELECT s.* INTO STRICT d FROM platform.sealed_deletion() s;
    UPDATE identity.login_sessions SET revoked_at = clock_timestamp()
    WHERE (d.subject_id IS NULL OR account_id = d.subject_id) AND (d.tenant_id IS NULL OR tenant_id = d.tenant_id)
        AND revoked_at IS NULL;
    GET DIAGNOSTICS sessions = ROW_COUNT;
    DELETE FROM identity.mfa_challenges c
    WHERE (d.subject_id IS NULL OR c.account_id = d.subject_id) AND (d.tenant_id IS NULL OR c.tenant_id = d.tenant_id);
    GET DIAGNOSTICS challenges = ROW_COUNT;
    PERFORM platform.count_erased('identity.mfa_challenges', 'delete', challenges);
    UPDATE app.api_keys SET expires_at = clock_timestamp()
    WHERE (d.subject_id IS NULL OR created_by = d.subject_id) AND (d.tenant_id IS NULL OR tenant_id = d.tenant_id)
        AND expires_at > clock_timestamp();
    GET DIAGNOSTICS keys = ROW_COUNT;
    RETURN sessions + keys;
END
$$;
SET LOCAL ROLE context_owner;

-- The person's own erasure opens its part in the sealed organization, which decides what becomes of her content there:
-- opened, refused (a hold keeps everything), or none (she is no member). A request that is open there already is taken
-- over. The message that starts it comes along.
CREATE FUNCTION platform.open_child(child uuid) RETURNS TABLE (outcome text, opened uuid, message uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
    tenant uuid := app.tenant_id();
    wish text;
    alone boolean;
    known uuid;
BEGIN
    SELECT s.* INTO STRICT d FROM platform.sealed_deletion() s WHERE s.scope = 'me' AND s.frozen_at IS NOT NULL;
    SELECT coalesce(o.settings ->> 'erasure_policy', 'keep_pseudonymous') INTO wish
    FROM app.organizations o WHERE o.tenant_id = tenant FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM platform.deletions c WHERE c.parent_id = d.job_id AND c.tenant_id = tenant) THEN
        RETURN QUERY SELECT 'none', NULL::uuid, NULL::uuid;
        RETURN;
    END IF;
    SELECT j.id INTO known FROM platform.jobs j JOIN platform.deletions c ON c.job_id = j.id
    WHERE c.subject_id = d.subject_id AND c.tenant_id = tenant AND c.finished_at IS NULL FOR UPDATE OF j;
    IF FOUND THEN
        UPDATE platform.deletions SET parent_id = d.job_id, execute_after = least(execute_after, clock_timestamp())
        WHERE job_id = known;
        UPDATE platform.jobs SET heartbeat_at = clock_timestamp(),
            status = CASE status WHEN 'failed' THEN 'queued' ELSE status END
        WHERE id = known AND status <> 'running';
        RETURN QUERY SELECT 'opened', known, platform.post_erasure(known, now());
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM app.members m WHERE m.tenant_id = tenant AND m.user_id = d.subject_id) THEN
        RETURN QUERY SELECT 'none', NULL::uuid, NULL::uuid;
        RETURN;
    END IF;
    alone := NOT EXISTS (SELECT FROM app.members m WHERE m.tenant_id = tenant AND m.user_id <> d.subject_id);
    PERFORM platform.schedule_deletion(child, 'user', d.subject_id, tenant, now());
    UPDATE platform.deletions SET parent_id = d.job_id, channel = 'child', requested_by = d.subject_id,
        received_at = d.received_at, due_at = d.due_at, frozen_at = d.frozen_at, mail_to = d.mail_to,
        name_to_find = d.name_to_find, phones_to_find = d.phones_to_find,
        approval_needed = wish = 'approve' AND NOT alone AND d.channel <> 'replay',
        policy = CASE wish WHEN 'erase' THEN 'erase' WHEN 'approve' THEN NULL ELSE 'keep_pseudonymous' END
    WHERE job_id = child;
    IF platform.leaves_nothing('user', d.subject_id, tenant) THEN
        PERFORM platform.refuse_deletion(child);
        RETURN QUERY SELECT 'refused', child, NULL::uuid;
        RETURN;
    END IF;
    RETURN QUERY SELECT 'opened', child, platform.post_erasure(child, now());
END
$$;

-- Whether the children are done; until they are, the parent rests, and the last of them wakes it.
CREATE FUNCTION platform.await_children(execution text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent uuid := (SELECT s.job_id FROM platform.sealed_deletion() s);
BEGIN
    PERFORM FROM platform.jobs j WHERE j.id = parent FOR UPDATE; -- as wake_parent does, before the children are read
    IF NOT platform.has_open_children(parent) THEN
        RETURN 'done';
    END IF;
    UPDATE platform.jobs SET status = 'queued', execution_id = NULL,
        heartbeat_at = greatest(clock_timestamp() + interval '1 day', ( -- were the wake ever lost, it looks by itself
            SELECT max(c.due_at) FROM platform.deletions c WHERE c.parent_id = parent AND c.finished_at IS NULL))
    WHERE id = parent AND status = 'running' AND execution_id = execution;
    RETURN CASE WHEN FOUND THEN 'waiting' ELSE 'lost' END;
END
$$;

SET LOCAL ROLE context_definer;
-- The folders of the objects that hold what was erased. Remembered, since rows go before the last look into storage.
CREATE OR REPLACE FUNCTION platform.subject_exports() RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found uuid[];
BEGIN
    PERFORM platform.stop_exports();
    UPDATE platform.deletions d SET export_ids = array(
        SELECT unnest(d.export_ids)
        UNION
        SELECT e.id FROM platform.exports_concerned() e)
    WHERE d.job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s)
    RETURNING d.export_ids INTO found;
    RETURN found;
END
$$;
SET LOCAL ROLE context_owner;

-- What holds keep is noted once nothing else is left: the sealed organization's rows, or the account.
CREATE FUNCTION platform.note_held() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
    tenant uuid := app.tenant_id();
    decided text;
    noted bigint;
BEGIN
    SELECT s.* INTO STRICT d FROM platform.sealed_deletion() s;
    DELETE FROM platform.deletion_held h WHERE h.job_id = d.job_id AND h.tenant_id IS NOT DISTINCT FROM tenant;
    IF tenant IS NULL THEN
        INSERT INTO platform.deletion_held (job_id, table_name, rows, until)
        SELECT d.job_id, c.table_name, c.row_count, coalesce(c.until, clock_timestamp())
        FROM platform.held_counts(d.subject_id) c WHERE c.row_count > 0;
    ELSE
        decided := coalesce((SELECT o.mode FROM platform.deletion_organizations o
                             WHERE o.job_id = d.job_id AND o.tenant_id = tenant), app.erasure_mode(d.subject_id));
        INSERT INTO platform.deletion_held (job_id, tenant_id, table_name, rows, until)
        SELECT d.job_id, tenant, c.table_name, c.row_count, coalesce(c.until, clock_timestamp())
        FROM app.held_counts(d.subject_id, decided) c WHERE c.row_count > 0;
    END IF;
    GET DIAGNOSTICS noted = ROW_COUNT;
    RETURN noted;
END
$$;

-- What the steps need to know of the sealed job.
CREATE FUNCTION platform.deletion_brief() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'scope', d.scope, 'tenant_id', d.tenant_id, 'channel', d.channel, 'frozen', d.frozen_at IS NOT NULL,
        'steps', (SELECT json_object_agg(s.name, s.status) FROM platform.deletion_steps s WHERE s.job_id = d.job_id))
    FROM platform.sealed_deletion() d
$$;

-- A step begins: run, done (before), or absent when the request has no such step.
CREATE FUNCTION platform.begin_step(step text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known platform.deletion_steps;
BEGIN
    SELECT k.* INTO known FROM platform.deletion_steps k JOIN platform.sealed_deletion() s ON s.job_id = k.job_id
    WHERE k.name = step;
    IF known.status IS NULL THEN
        RETURN 'absent';
    ELSIF known.status = 'done' THEN
        RETURN 'done';
    END IF;
    PERFORM platform.deletion_progress(step, 'running', 0);
    RETURN 'run';
END
$$;

-- The organizations whose part of the sealed erasure was refused: what is held there is the parent's to tell.
CREATE FUNCTION platform.refused_tenants() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.tenant_id FROM platform.deletions c JOIN platform.sealed_deletion() s ON s.job_id = c.parent_id
    WHERE c.refused_reason IS NOT NULL
$$;

-- The receipt of a request that nobody made by hand.
CREATE FUNCTION platform.ensure_receipt(made bytea) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions d SET receipt_hash = made
    WHERE d.job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s) AND length(d.receipt_hash) = 0
$$;

SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.deletion_facts() RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_build_object(
        'deletion_id', d.job_id, 'scope', d.scope, 'completed_at', platform.moment(clock_timestamp()),
        'objects_deleted', family.objects,
        'scan', json_build_object('places', family.places, 'hits', family.hits),
        'counts', platform.counts_of(d.job_id), 'held', platform.held_of(d.job_id), 'certificate', d.certificate)
    FROM platform.sealed_deletion() d,
        LATERAL (SELECT sum(f.objects_deleted)::integer AS objects, sum(f.scan_places)::integer AS places,
                        sum(f.scan_hits)::integer AS hits
                 FROM platform.deletions f
                 WHERE f.job_id = d.job_id OR f.parent_id = d.job_id) AS family
$$;

CREATE OR REPLACE FUNCTION platform.objects_found(found integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET objects_deleted = greatest(objects_deleted, found)
    WHERE job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s)
$$;
CREATE OR REPLACE FUNCTION platform.scan_result(places integer, hits integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET scan_places = places, scan_hits = hits
    WHERE job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s)
$$;
CREATE OR REPLACE FUNCTION platform.put_certificate(issued jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET certificate = issued, completed_at = (issued ->> 'completed_at')::timestamptz
    WHERE job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s) AND certificate IS NULL
$$;
CREATE OR REPLACE FUNCTION platform.forget_subject() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET reason = NULL, mail_to = NULL, name_to_find = NULL, phones_to_find = '{}',
        extension_reason = NULL
    WHERE job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s) AND certificate IS NOT NULL
$$;
SET LOCAL ROLE context_owner;

-- The last mail, for half a minute ours alone; no row when it has been sent or is being sent. A child's person is told by
-- its parent, and nobody is told a second time of what a restored backup brought back.
CREATE FUNCTION platform.claim_last_mail()
RETURNS TABLE (email text, receipt_hash bytea, scope text, organization text, retains boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions d SET mail_claimed_until = clock_timestamp() + interval '30 seconds'
    FROM platform.sealed_deletion() s
    WHERE d.job_id = s.job_id AND d.mail_to IS NOT NULL AND d.channel NOT IN ('child', 'replay')
        AND (d.mail_claimed_until IS NULL OR d.mail_claimed_until < clock_timestamp())
    RETURNING d.mail_to, d.receipt_hash, d.scope,
        (SELECT o.name FROM app.organizations o WHERE o.tenant_id = d.tenant_id AND d.scope = 'user'),
        json_array_length(platform.held_of(d.job_id)) > 0
$$;
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION platform.deletion_mail_pending() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.mail_to IS NOT NULL AND d.channel NOT IN ('child', 'replay')
    FROM platform.deletions d WHERE d.job_id = app.principal_id()
$$;
CREATE OR REPLACE FUNCTION platform.release_deletion_mail() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE platform.deletions SET mail_claimed_until = NULL
    WHERE job_id IN (SELECT s.job_id FROM platform.sealed_deletion() s) AND mail_to IS NOT NULL
$$;
SET LOCAL ROLE context_owner;

-- Last step. Done takes a certificate, every step, every child, and the forgotten address; failed says why and where.
-- Its parent goes on, and what holds keep gets a follow-up, in the same transaction. False when the execution has lost
-- the job; the messages to send come along.
CREATE FUNCTION platform.end_deletion(job uuid, execution text, outcome text, why text)
RETURNS TABLE (ended boolean, messages uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
    posted uuid[] := '{}';
BEGIN
    IF outcome = 'done' AND app.may_handle(job) AND (platform.has_open_children(job) OR NOT EXISTS (
        SELECT FROM platform.deletions x
        WHERE x.job_id = job AND x.certificate IS NOT NULL AND x.ledger_at IS NOT NULL
            AND x.mail_to IS NULL AND x.name_to_find IS NULL
            AND NOT EXISTS (SELECT FROM platform.deletion_steps s
                            WHERE s.job_id = job AND s.status NOT IN ('done', 'skipped')
                                AND NOT (s.name = 'notify' AND s.status = 'failed'))))
    THEN
        RAISE EXCEPTION 'an erasure without certificate is not complete' USING ERRCODE = 'CX409';
    ELSIF NOT platform.finish_job(job, execution, outcome) THEN
        RETURN QUERY SELECT false, posted;
        RETURN;
    END IF;
    SELECT * INTO d FROM platform.deletions x WHERE x.job_id = job;
    IF d.finished_at IS NOT NULL THEN
        RETURN QUERY SELECT true, posted; -- said before
        RETURN;
    END IF;
    -- With everything untouched there is nothing to start anew with: the copies of address and name go at once.
    UPDATE platform.deletions x SET finished_at = clock_timestamp(), error = CASE outcome WHEN 'failed' THEN why END,
        reason = CASE WHEN frozen_at IS NOT NULL THEN reason END,
        mail_to = CASE WHEN frozen_at IS NOT NULL THEN mail_to END,
        name_to_find = CASE WHEN frozen_at IS NOT NULL THEN name_to_find END,
        phones_to_find = CASE WHEN frozen_at IS NOT NULL THEN phones_to_find ELSE '{}' END
    WHERE x.job_id = job;
    UPDATE platform.deletion_steps SET status = 'failed', at = clock_timestamp()
    WHERE job_id = job AND status = 'running' AND outcome = 'failed';
    IF outcome = 'done' THEN
        posted := array_remove(platform.follow_up(d) || platform.release_waiting(d)
                               || platform.wake_parent(d.parent_id), NULL);
    END IF;
    RETURN QUERY SELECT true, posted;
END
$$;

-- What a hold keeps erases itself when the hold ends: the erasure that comes then. What a child left is its parent's,
-- unless the organization itself was to go.
CREATE FUNCTION platform.follow_up(d platform.deletions) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next uuid := gen_random_uuid();
    whole boolean := EXISTS (SELECT FROM platform.deletion_organizations o
                             WHERE o.job_id = (d).job_id AND o.tenant_id = (d).tenant_id AND o.mode = 'whole');
    kept boolean := EXISTS (SELECT FROM platform.deletion_held h WHERE h.job_id = (d).job_id);
    subject uuid := CASE WHEN NOT whole THEN (d).subject_id END;
    start timestamptz;
BEGIN
    IF (d).scope = 'me' THEN
        kept := EXISTS (SELECT FROM identity.accounts a WHERE a.id = (d).subject_id)
            OR EXISTS (SELECT FROM app.members m WHERE m.user_id = (d).subject_id);
    ELSIF (d).parent_id IS NOT NULL AND NOT whole THEN
        kept := false;
    END IF;
    IF NOT kept THEN
        RETURN '{}';
    END IF;
    start := coalesce(platform.next_hold_end(subject, (d).tenant_id), now());
    PERFORM platform.schedule_deletion(
        next, CASE WHEN whole THEN 'organization' ELSE (d).scope END, subject, (d).tenant_id, start);
    UPDATE platform.deletions x SET channel = 'hold_end', follows = (d).job_id, policy = (d).policy,
        requested_by = (d).requested_by, frozen_at = clock_timestamp(), mail_to = NULL, name_to_find = NULL
    WHERE x.job_id = next;
    RETURN ARRAY[platform.post_erasure(next, start)];
END
$$;

-- In an organization that is gone nobody approves any more: what waits there finds nothing left, and ends.
CREATE FUNCTION platform.release_waiting(d platform.deletions) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting uuid;
    posted uuid[] := '{}';
BEGIN
    IF (d).tenant_id IS NULL
        OR EXISTS (SELECT FROM app.organizations o WHERE o.tenant_id = (d).tenant_id AND o.suspended_at IS NULL)
    THEN
        RETURN posted;
    END IF;
    FOR waiting IN
        SELECT x.job_id FROM platform.deletions x JOIN platform.jobs j ON j.id = x.job_id
        WHERE x.tenant_id = (d).tenant_id AND x.job_id <> (d).job_id AND x.finished_at IS NULL AND j.status = 'queued'
            AND x.approval_needed AND x.approved_at IS NULL
        ORDER BY x.job_id FOR UPDATE OF j
    LOOP
        UPDATE platform.deletions SET approval_needed = false, policy = 'keep_pseudonymous' WHERE job_id = waiting;
        UPDATE platform.jobs SET heartbeat_at = clock_timestamp() WHERE id = waiting;
        posted := posted || platform.post_erasure(waiting, now());
    END LOOP;
    RETURN posted;
END
$$;

-- Messages that a definer function wrote, for the function that called it to send at once.
CREATE FUNCTION platform.erasure_messages(wanted uuid[])
RETURNS TABLE (id uuid, kind text, name text, reference uuid, task_name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.kind, o.name, o.reference, o.task_name FROM platform.outbox o
    WHERE o.id = ANY (wanted) AND o.kind = 'workflow' AND o.name = 'gdpr_erasure' AND o.not_before <= clock_timestamp()
        AND app.sealed(1) = 's'
$$;

-- A hold is lifted: what it kept may go now. A follow-up that finds another hold goes on waiting by itself.
CREATE FUNCTION platform.hasten_follow_ups(person uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    following uuid;
    hastened integer := 0;
BEGIN
    IF NOT app.sealed_holds(ARRAY['legalhold.manage']) THEN
        RETURN 0;
    END IF;
    FOR following IN
        SELECT d.job_id FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id
        WHERE d.channel = 'hold_end' AND d.finished_at IS NULL AND j.status = 'queued' AND d.started_at IS NULL
            AND ((d.subject_id = person AND (d.tenant_id IS NULL OR d.tenant_id = app.tenant_id()))
                 OR (d.scope = 'organization' AND d.tenant_id = app.tenant_id()))
        ORDER BY d.job_id FOR UPDATE OF j
    LOOP
        UPDATE platform.deletions SET execute_after = clock_timestamp() WHERE job_id = following;
        UPDATE platform.jobs SET heartbeat_at = clock_timestamp() WHERE id = following;
        PERFORM platform.post_erasure(following, now());
        hastened := hastened + 1;
    END LOOP;
    RETURN hastened;
END
$$;

-- Rehearsal: what is to be counted where, in which mode. Its counts of the platform's tables, of a person's own request.
CREATE FUNCTION platform.rehearse_deletion(wanted text, person uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    outcome text := platform.check_deletion(wanted, person);
    subject uuid := CASE wanted WHEN 'me' THEN app.principal_id() ELSE person END;
BEGIN
    IF outcome <> 'ok' THEN
        RETURN json_build_object('outcome', outcome);
    END IF;
    RETURN json_build_object(
        'outcome', outcome,
        'counts', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'action', c.action,
                                                              'rows', c.row_count)), '[]')
                   FROM platform.subject_counts(subject) c WHERE wanted = 'me'),
        'held', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'rows', c.row_count,
                                                            'until', platform.moment(c.until))), '[]')
                 FROM platform.held_counts(subject) c WHERE wanted = 'me' AND c.row_count > 0),
        'organizations', (
            SELECT coalesce(json_agg(m.tenant_id ORDER BY m.tenant_id), '[]')
            FROM app.members m
            WHERE wanted = 'me' AND m.user_id = subject));
END
$$;

-- The same in the sealed organization.
CREATE FUNCTION app.rehearse_deletion(wanted text, person uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    subject uuid := CASE wanted WHEN 'me' THEN app.principal_id() WHEN 'user' THEN person END;
    decided text;
BEGIN
    IF coalesce(app.sealed(1), '') <> 'u' OR (wanted <> 'me' AND platform.check_deletion(wanted, person) <> 'ok') THEN
        RETURN NULL;
    END IF;
    decided := CASE wanted WHEN 'organization' THEN 'whole' ELSE app.erasure_mode(subject) END;
    RETURN json_build_object(
        'counts', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'action', c.action,
                                                              'rows', c.row_count)), '[]')
                   FROM app.subject_counts(subject, decided) c),
        'held', (SELECT coalesce(json_agg(json_build_object('table', c.table_name, 'rows', c.row_count,
                                                            'until', platform.moment(c.until))), '[]')
                 FROM app.held_counts(subject, decided) c WHERE c.row_count > 0));
END
$$;

-- What a mail about a request needs while it is being sent; its id says to whom it goes.
CREATE FUNCTION platform.mail_of_deletion(mail uuid)
RETURNS TABLE (email text, job_id uuid, receipt_hash bytea, scope text, organization text, execute_after text,
               refusal text, waits boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.email, d.job_id, d.receipt_hash, d.scope, o.name, to_char(d.execute_after AT TIME ZONE 'UTC',
               'YYYY-MM-DD HH24:MI'), d.refused_reason, d.approval_needed AND d.approved_at IS NULL
    FROM platform.outbox x JOIN platform.deletions d ON d.job_id = x.reference
    LEFT JOIN app.organizations o ON o.tenant_id = d.tenant_id
    JOIN identity.accounts a ON a.id IN (
        SELECT d.subject_id UNION SELECT m.user_id FROM app.members m WHERE m.tenant_id = d.tenant_id)
        AND platform.mail_about(d.job_id, a.id) = x.id
    WHERE x.id = mail AND x.name IN ('deletion_received', 'deletion_refused') AND x.claimed_until > clock_timestamp()
        AND x.delivered_at IS NULL AND app.is_nobody()
$$;

-- As in 0010, and two things more: a token of kind p is a person like u who is granted nothing, and so may have her own
-- data while the organization is suspended; nobody works where her erasure has begun, by whatever credential.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION app.credential(kind text, tenant uuid, principal uuid, login_session uuid, signs_in boolean)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer text;
    suspended timestamptz;
    methods text[];
BEGIN
    IF kind = 's' THEN
        RETURN app.job_credential(tenant, principal);
    ELSIF kind = 'k' AND tenant IS NULL AND principal IS NULL THEN
        SELECT json_build_object(
                   'tenant', k.tenant_id, 'principal', k.created_by, 'key', k.id, 'role', NULL,
                   'permissions', ARRAY(SELECT unnest(k.permissions)
                                        INTERSECT SELECT unnest(coalesce(r.permissions, c.permissions))))::text,
               o.suspended_at
        INTO answer, suspended
        FROM app.api_keys k
        JOIN identity.accounts a ON a.id = k.created_by AND a.status = 'active'
        JOIN app.members m ON m.tenant_id = k.tenant_id AND m.user_id = k.created_by
        JOIN app.organizations o ON o.tenant_id = k.tenant_id
        LEFT JOIN platform.roles r ON r.name = m.role
        LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
        WHERE k.key_hash = login_session AND k.expires_at > clock_timestamp()
            AND NOT platform.is_frozen(k.created_by, k.tenant_id);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no such API key' USING ERRCODE = 'CX401';
        ELSIF suspended IS NOT NULL THEN
            RAISE EXCEPTION 'the organization is suspended' USING ERRCODE = 'CX403';
        END IF;
        RETURN answer;
    ELSIF kind NOT IN ('u', 'p') OR (kind = 'p' AND num_nulls(tenant, principal, login_session) > 0) THEN
        RAISE EXCEPTION 'unknown kind of credential' USING ERRCODE = 'CX401';
    ELSIF tenant IS NULL AND principal IS NULL AND login_session IS NULL THEN
        RETURN '{}'; -- nobody: sees nothing but what a definer function gives for a secret that the caller shows
    END IF;
    PERFORM FROM identity.accounts a
    WHERE a.id = principal AND (a.status = 'active' OR (signs_in AND login_session IS NULL));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such account' USING ERRCODE = 'CX401';
    END IF;
    IF NOT (signs_in AND login_session IS NULL) THEN
        SELECT s.amr INTO methods FROM identity.login_sessions s
        WHERE s.id = login_session AND s.account_id = principal AND s.revoked_at IS NULL
            AND s.expires_at > clock_timestamp();
        IF NOT FOUND THEN
            PERFORM FROM identity.federated_identities f WHERE f.id = login_session AND f.account_id = principal;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the login session has ended' USING ERRCODE = 'CX401';
            END IF;
        END IF;
    END IF;
    IF tenant IS NULL THEN
        RETURN '{"role": null, "permissions": []}';
    END IF;
    SELECT CASE WHEN o.settings @> '{"require_mfa": true}' AND NOT 'mfa' = ANY (coalesce(methods, '{}')) THEN
                   json_build_object('role', coalesce(m.role, c.name), 'permissions', '{}'::text[], 'mfa', false)
               ELSE json_build_object('role', coalesce(m.role, c.name),
                                      'permissions', coalesce(r.permissions, c.permissions))
           END::text, o.suspended_at
    INTO answer, suspended
    FROM app.members m
    JOIN app.organizations o ON o.tenant_id = m.tenant_id
    LEFT JOIN platform.roles r ON r.name = m.role
    LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
    WHERE m.tenant_id = tenant AND m.user_id = principal AND NOT platform.is_frozen(principal, tenant);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a member any more' USING ERRCODE = 'CX401';
    ELSIF kind = 'p' THEN
        RETURN json_build_object('role', answer::json ->> 'role', 'permissions', '{}'::text[])::text;
    ELSIF suspended IS NOT NULL THEN
        RAISE EXCEPTION 'the organization is suspended' USING ERRCODE = 'CX403';
    END IF;
    RETURN answer;
END
$$;
SET LOCAL ROLE context_owner;

-- A log-in leads elsewhere than to where she is frozen.
SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION identity.account_by_email(wanted text)
RETURNS TABLE (account_id uuid, password_hash text, status text, organizations text[], live integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.password_hash, a.status, m.organizations, m.live
    FROM identity.accounts a
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(o.tenant_id::text ORDER BY o.suspended_at IS NOT NULL, m.created_at, m.tenant_id),
                        '{}') AS organizations,
               count(*) FILTER (WHERE o.suspended_at IS NULL)::integer AS live
        FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
        WHERE m.user_id = a.id AND NOT platform.is_frozen(a.id, m.tenant_id)
    ) AS m
    WHERE a.email = wanted AND app.is_nobody()
    UNION ALL
    (SELECT NULL, r.password_hash, 'pending', '{}', 0
     FROM identity.registrations r
     WHERE r.email = wanted AND r.expires_at > now() AND app.is_nobody()
         AND NOT EXISTS (SELECT FROM identity.accounts a WHERE a.email = wanted)
     ORDER BY r.created_at DESC LIMIT 1)
$$;
CREATE OR REPLACE FUNCTION identity.organizations() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('id', o.tenant_id, 'slug', o.slug, 'name', o.name,
                                               'role', coalesce(m.role, r.name))
                             ORDER BY m.created_at, m.tenant_id), '[]')::text
    FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
    LEFT JOIN app.roles r ON r.tenant_id = m.tenant_id AND r.id = m.role_id
    WHERE m.user_id = app.principal_id() AND o.suspended_at IS NULL
        AND NOT platform.is_frozen(m.user_id, m.tenant_id)
$$;
SET LOCAL ROLE context_owner;

-- squawk-ignore ban-drop-function
DROP FUNCTION IF EXISTS platform.open_deletion(uuid, interval, bytea, text, text[]),
    platform.finish_deletion(uuid, text, text, text), platform.claim_deletion_mail(), platform.preview_deletion(),
    app.preview_deletion(), platform.preview_last_owner();

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.is_frozen(uuid, uuid)', 'platform.is_wholly_held(uuid, uuid)', 'platform.next_hold_end(uuid, uuid)',
        'platform.leaves_nothing(text, uuid, uuid)', 'platform.has_other_owner(uuid, uuid)',
        'platform.check_deletion(text, uuid)', 'platform.post_erasure(uuid, timestamptz)',
        'platform.schedule_deletion(uuid, text, uuid, uuid, timestamptz)', 'platform.post_mails_about(uuid, text)',
        'platform.request_deletion(uuid, text, uuid, interval, bytea, text, text, timestamptz)',
        'platform.refuse_deletion(uuid)', 'platform.wake_parent(uuid)', 'platform.has_open_children(uuid)',
        'platform.approve_deletion(uuid, text)', 'platform.may_see(platform.deletions)', 'platform.may_cancel(uuid)',
        'platform.counts_of(uuid)', 'platform.held_of(uuid)', 'platform.exports_concerned()',
        'platform.stop_exports()', 'platform.open_child(uuid)', 'platform.await_children(text)',
        'platform.note_held()', 'platform.deletion_brief()', 'platform.begin_step(text)', 'platform.refused_tenants()',
        'platform.ensure_receipt(bytea)',
        'platform.claim_last_mail()', 'platform.end_deletion(uuid, text, text, text)',
        'platform.follow_up(platform.deletions)', 'platform.release_waiting(platform.deletions)',
        'platform.erasure_messages(uuid[])', 'platform.hasten_follow_ups(uuid)',
        'platform.rehearse_deletion(text, uuid)', 'app.rehearse_deletion(text, uuid)',
        'platform.mail_of_deletion(uuid)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION platform.steps_of(text), platform.mail_about(uuid, uuid),
    platform.deletion_status(platform.deletions, text) TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.request_deletion(uuid, text, uuid, interval, bytea, text, text, timestamptz),
    platform.rehearse_deletion(text, uuid), app.rehearse_deletion(text, uuid), platform.hasten_follow_ups(uuid),
    app.sealed_holds(text[]), app.is_subject(uuid) TO deletions_fn;
GRANT EXECUTE ON FUNCTION platform.request_deletion(uuid, text, uuid, interval, bytea, text, text, timestamptz),
    platform.approve_deletion(uuid, text) TO audit_fn;
GRANT EXECUTE ON FUNCTION platform.open_child(uuid), platform.await_children(text), platform.note_held(),
    platform.deletion_brief(), platform.begin_step(text), platform.refused_tenants(), platform.ensure_receipt(bytea), platform.claim_last_mail(),
    platform.end_deletion(uuid, text, text, text), platform.erasure_messages(uuid[]), platform.outbox_sent(uuid)
    TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.mail_of_deletion(uuid) TO auth_fn;
-- A job is claimed by its own function, which knows of grace and approval; an erasure ends by end_deletion alone.
REVOKE EXECUTE ON FUNCTION platform.claim_job(uuid, text, text) FROM exports_jobs_fn, deletions_jobs_fn;
REVOKE EXECUTE ON FUNCTION platform.finish_job(uuid, text, text) FROM deletions_jobs_fn;
SET LOCAL ROLE context_owner;
