-- The audit trail without gaps: refusals that no transaction can be sealed for, what becomes of jobs, and its filters.

-- Filters by resource and by time. An event's time never lies before that of the event before it (0028), so that a
-- bound of the time is one of the seq.
CREATE INDEX audit_events_by_resource ON app.audit_events (tenant_id, resource_id, seq);
CREATE INDEX audit_events_by_type ON app.audit_events (tenant_id, resource_type, seq);
CREATE INDEX audit_events_by_moment ON app.audit_events (tenant_id, at, seq);
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX app.audit_events_by_time;

CREATE INDEX deletion_organizations_whole ON platform.deletion_organizations (tenant_id) WHERE mode = 'whole';

-- Whether an organization's chain takes events: not while the organization is being erased as a whole.
CREATE FUNCTION platform.takes_events(organization uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM app.organizations o WHERE o.tenant_id = organization)
        AND NOT EXISTS (SELECT FROM platform.deletion_organizations d
                        WHERE d.tenant_id = organization AND d.mode = 'whole')
$$;

-- A refusal that stands outside of the refused transaction: of a member by her login session (or the federated identity
-- in its place), or of an API key by its hash (no person), be the organization suspended, the session over or the key
-- expired. False where nobody is known by the credential: then there is no chain to tell. NULL where the chain was
-- tampered with and takes no event.
CREATE FUNCTION app.record_refusal(
    organization uuid, person uuid, credential uuid, route text, reason text, needs text, request text, personal jsonb
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place uuid := organization;
    who uuid := person;
    shown uuid := credential;
BEGIN
    IF person IS NULL THEN
        SELECT k.tenant_id, k.created_by, k.id INTO place, who, shown
        FROM app.api_keys k WHERE k.key_hash = credential;
    ELSIF NOT EXISTS (SELECT FROM identity.login_sessions s
                      WHERE s.id = credential AND s.account_id = person AND s.tenant_id = organization)
        AND NOT EXISTS (SELECT FROM identity.federated_identities f
                        WHERE f.id = credential AND f.account_id = person)
    THEN
        RETURN false;
    END IF;
    IF NOT app.is_nobody() OR NOT platform.takes_events(place) OR platform.is_frozen(who, place)
        OR NOT EXISTS (SELECT FROM app.members m WHERE m.tenant_id = place AND m.user_id = who)
    THEN
        RETURN false;
    END IF;
    PERFORM platform.append_as(
        CASE WHEN person IS NULL THEN 'k' ELSE 'u' END, place, who, shown, jsonb_build_array(jsonb_build_object(
            'action', 'access.denied', 'resource_type', 'route', 'resource_id', route, 'outcome', 'denied',
            'request_id', request, 'data', jsonb_build_object('reason', reason, 'needs', needs),
            'personal', personal)));
    RETURN true;
EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: the refusal stands all the same
    RETURN NULL;
END
$$;

-- Events about a person's account in her organizations, suspended ones as well, or in those of them that are named: each
-- trusts the account. Returns in how many. A chain that was tampered with keeps no other one from its event.
CREATE FUNCTION identity.tell_organizations(account uuid, organizations uuid[], events jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place uuid;
    told integer := 0;
BEGIN
    IF NOT app.is_nobody() THEN
        RAISE EXCEPTION 'for a transaction of its own' USING ERRCODE = '42501';
    END IF;
    FOR place IN -- in one order, as everybody who locks several chains
        SELECT m.tenant_id FROM app.members m
        WHERE m.user_id = account AND (organizations IS NULL OR m.tenant_id = ANY (organizations))
            AND NOT platform.is_frozen(account, m.tenant_id) AND platform.takes_events(m.tenant_id)
        ORDER BY m.tenant_id
    LOOP
        BEGIN
            PERFORM platform.append_as('u', place, account, NULL, events);
            told := told + 1;
        EXCEPTION WHEN unique_violation THEN
            RAISE WARNING 'the audit chain of organization % takes no event', place;
        END;
    END LOOP;
    RETURN told;
END
$$;

-- The link to a new password goes out: told in the chains when it is sent, since the answer to who asks for one takes
-- the same time whether there is an account or not.
CREATE FUNCTION identity.note_reset_mail(mail uuid, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place record;
BEGIN
    FOR place IN
        SELECT m.tenant_id, m.user_id
        FROM platform.outbox o
        JOIN identity.password_resets r ON r.id = o.reference
        JOIN app.members m ON m.user_id = r.account_id
        WHERE o.id = mail AND o.claimed_until > clock_timestamp() AND o.delivered_at IS NULL AND app.is_nobody()
            AND NOT platform.is_frozen(m.user_id, m.tenant_id) AND platform.takes_events(m.tenant_id)
        ORDER BY m.tenant_id
    LOOP
        BEGIN
            PERFORM platform.record_event(
                place.tenant_id, 'user.password_reset_mailed', 'user', place.user_id::text, '{}', request);
        EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: the mail is out all the same
            RAISE WARNING 'the audit chain of organization % takes no event', place.tenant_id;
        END;
    END LOOP;
END
$$;

-- What the system does about an erasure, in the chains of the organizations that it concerns and that live on.
CREATE FUNCTION platform.record_deletion(job uuid, done text, data jsonb, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    event CONSTANT jsonb := jsonb_build_object(
        'action', done, 'resource_type', 'deletion', 'resource_id', job, 'outcome', CASE done
            WHEN 'deletion.failed' THEN 'failure' WHEN 'deletion.refused' THEN 'denied' ELSE 'success' END,
        'request_id', coalesce(request, gen_random_uuid()::text), 'data', data, 'personal', NULL);
    place uuid;
BEGIN
    FOR place IN
        SELECT t.tenant_id FROM platform.job_tenants t
        WHERE t.job_id = job AND platform.takes_events(t.tenant_id) ORDER BY t.tenant_id
    LOOP
        PERFORM platform.append_as('s', place, job, NULL, jsonb_build_array(event));
    END LOOP;
END
$$;

ALTER FUNCTION platform.takes_events(uuid) OWNER TO context_definer;
ALTER FUNCTION app.record_refusal(uuid, uuid, uuid, text, text, text, text, jsonb) OWNER TO context_definer;
ALTER FUNCTION identity.tell_organizations(uuid, uuid[], jsonb) OWNER TO context_definer;
ALTER FUNCTION identity.note_reset_mail(uuid, text) OWNER TO context_definer;
ALTER FUNCTION platform.record_deletion(uuid, text, jsonb, text) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.claim_deletion(uuid, text);
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.end_deletion(uuid, text, text, text);
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.acknowledge_deletion(uuid, text);
SET LOCAL ROLE context_owner;

-- As before; what is decided here, by a hold or because time is up, stands in the chains.
CREATE FUNCTION platform.claim_deletion(job uuid, execution text, request text DEFAULT NULL) RETURNS text
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
        PERFORM platform.record_deletion(
            job, 'deletion.approved', '{"policy": "keep_pseudonymous", "reason": "due"}', request);
    END IF;
    IF state = 'queued' AND d.started_at IS NULL AND platform.leaves_nothing(d.scope, d.subject_id, d.tenant_id) THEN
        IF d.channel NOT IN ('hold_end', 'replay') OR d.parent_id IS NOT NULL THEN -- its parent waits for it
            PERFORM platform.refuse_deletion(job);
            PERFORM platform.record_deletion(
                job, 'deletion.refused', jsonb_build_object('scope', d.scope, 'reason', 'legal_hold'), request);
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

-- As before; how it ended stands in the chains, and so does what comes after it.
CREATE FUNCTION platform.end_deletion(
    job uuid, execution text, outcome text, why text, request text DEFAULT NULL
) RETURNS TABLE (ended boolean, messages uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d platform.deletions;
    posted uuid[] := '{}';
    later uuid;
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
    PERFORM platform.record_deletion(
        job, CASE outcome WHEN 'done' THEN 'deletion.completed' ELSE 'deletion.failed' END,
        jsonb_build_object('scope', d.scope), request);
    FOR later IN -- what a hold has kept
        SELECT f.job_id FROM platform.deletions f WHERE outcome = 'done' AND f.follows = job ORDER BY f.job_id
    LOOP
        PERFORM platform.record_deletion(
            later, 'deletion.requested', jsonb_build_object('scope', d.scope, 'channel', 'hold_end'), request);
    END LOOP;
    RETURN QUERY SELECT true, posted;
END
$$;

-- Art. 19 GDPR: a processor says that it has erased too. Saying it again changes nothing, and is no event.
CREATE FUNCTION platform.acknowledge_deletion(job uuid, who text, request text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known timestamptz;
BEGIN
    SELECT p.acknowledged_at INTO known FROM platform.deletion_processors p
    WHERE p.job_id = job AND p.name = who AND p.attempts > 0 AND app.is_nobody() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF known IS NULL THEN
        known := clock_timestamp();
        UPDATE platform.deletion_processors p SET acknowledged_at = known, told_at = coalesce(p.told_at, known)
        WHERE p.job_id = job AND p.name = who;
        PERFORM platform.record_deletion(
            job, 'deletion.acknowledged', jsonb_build_object('processor', who), request);
    END IF;
    RETURN platform.moment(known);
END
$$;

ALTER FUNCTION platform.claim_deletion(uuid, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.end_deletion(uuid, text, text, text, text) OWNER TO context_definer;
ALTER FUNCTION platform.acknowledge_deletion(uuid, text, text) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.record_refusal(uuid, uuid, uuid, text, text, text, text, jsonb)
    TO auth_fn, organizations_fn, projects_fn, exports_fn, deletions_fn, audit_fn;
GRANT EXECUTE ON FUNCTION identity.tell_organizations(uuid, uuid[], jsonb), identity.note_reset_mail(uuid, text)
    TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.claim_deletion(uuid, text, text),
    platform.end_deletion(uuid, text, text, text, text) TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.acknowledge_deletion(uuid, text, text) TO deletions_fn;
SET LOCAL ROLE context_owner;
