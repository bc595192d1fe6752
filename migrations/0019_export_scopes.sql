-- Exports of three scopes, a person's own data while her organization is suspended, and moving an organization in.

-- Kind `p`: a member who asks for her own data only. It carries no permission, and suspension does not stop it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE platform.context_keys DROP CONSTRAINT context_keys_kinds_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.context_keys ADD CONSTRAINT context_keys_kinds_check CHECK (kinds <@ ARRAY['u', 'k', 's', 'p']);

SET LOCAL ROLE context_definer;
CREATE OR REPLACE FUNCTION app.authorize(token text) RETURNS text
LANGUAGE plpgsql PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := string_to_array(token, '.');
    key record;
    mac bytea;
    seconds_left bigint;
    answer text;
    seal text;
BEGIN
    PERFORM set_config('app.context', '', true);
    IF EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql) THEN
        RAISE EXCEPTION 'a statement was prepared by SQL on this connection' USING ERRCODE = 'CX402';
    END IF;
    IF array_length(part, 1) IS DISTINCT FROM 9 OR part[1] <> 'v1' THEN
        RAISE EXCEPTION 'malformed context token' USING ERRCODE = 'CX400';
    END IF;
    SELECT * INTO key FROM platform.context_keys WHERE kid = part[2] AND login_role = session_user;
    IF NOT FOUND OR NOT part[3] = ANY (key.kinds) THEN
        RAISE EXCEPTION 'this login may not claim that' USING ERRCODE = 'CX400';
    END IF;
    mac := sha256(key.outer_pad || sha256(key.inner_pad
        || convert_to(left(token, -(length(part[9]) + 1)), 'UTF8')));
    IF sha256(convert_to(encode(mac, 'hex'), 'UTF8')) <> sha256(convert_to(part[9], 'UTF8')) THEN
        RAISE EXCEPTION 'context token altered' USING ERRCODE = 'CX400';
    END IF;
    seconds_left := part[8]::bigint - floor(extract(epoch FROM clock_timestamp()))::bigint;
    IF part[7] <> pg_backend_pid()::text OR seconds_left < 0 OR seconds_left > 5 THEN
        RAISE EXCEPTION 'context token of another connection or time' USING ERRCODE = 'CX400';
    END IF;
    answer := app.credential(part[3], nullif(part[4], '')::uuid, nullif(part[5], '')::uuid,
                             nullif(part[6], '')::uuid, key.signs_in);
    IF part[3] = 'k' THEN
        part[4] := answer::json ->> 'tenant';
        part[5] := answer::json ->> 'principal';
        part[6] := answer::json ->> 'key';
    END IF;
    IF part[3] = 'p' THEN
        part[3] := 'u'; -- from here on a person like any other, who was granted nothing
    END IF;
    seal := concat_ws('.', part[3], part[4], part[5], part[6], part[7],
                      (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    RETURN answer;
END
$$;

-- Nobody holds anything while the organization is suspended, nor, where it asks for a second factor, by a log-in without.
CREATE OR REPLACE FUNCTION app.sealed_holds(codes text[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM app.members m
        JOIN app.organizations o ON o.tenant_id = m.tenant_id AND o.suspended_at IS NULL
        LEFT JOIN platform.roles r ON r.name = m.role
        LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
        LEFT JOIN app.api_keys k ON app.sealed(1) = 'k' AND k.tenant_id = m.tenant_id AND k.id = app.sealed(4)::uuid
        WHERE m.tenant_id = app.tenant_id() AND m.user_id = app.principal_id()
            AND codes <@ coalesce(r.permissions, c.permissions) AND (app.sealed(1) = 'u' OR codes <@ k.permissions)
            AND (app.sealed(1) = 'k' OR NOT o.settings @> '{"require_mfa": true}'
                 OR EXISTS (SELECT FROM identity.login_sessions s
                            WHERE s.id = app.sealed(4)::uuid AND 'mfa' = ANY (s.amr))))
$$;
SET LOCAL ROLE context_owner;

-- Whose: a person's own (me), a person's in one organization (user), an organization's (then nobody is its subject).
-- squawk-ignore ban-drop-not-null
ALTER TABLE platform.exports ALTER COLUMN subject_account_id DROP NOT NULL;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.exports ADD CONSTRAINT exports_of_somebody
    CHECK ((subject_account_id IS NULL) = (scope = 'organization'));
-- What runs in one organization neither stops nor tells of what the person or another organization has running.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX platform.exports_one_running;
CREATE UNIQUE INDEX exports_one_running ON platform.exports (
    coalesce(subject_account_id, organization_id),
    (CASE WHEN scope = 'me' THEN '00000000-0000-0000-0000-000000000000' ELSE organization_id END)
) WHERE status IN ('queued', 'running');
CREATE INDEX exports_by_organization ON platform.exports (organization_id, requested_at DESC, id DESC)
    WHERE scope <> 'me';

-- An organization's requests are seen by those who may make them, from inside it, as long as they may.
ALTER POLICY person ON platform.exports
    USING (subject_account_id = (SELECT app.principal_id())
           OR (scope <> 'me' AND organization_id = (SELECT app.tenant_id())
               AND (SELECT app.sealed_holds('{export.create}'))));

-- What a copy holds of an organization, column by column as the register says; a test compares both.
GRANT SELECT (tenant_id, slug, name, settings, created_at, updated_at) ON app.organizations TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, name, permissions, created_at, updated_at) ON app.roles TO exports_jobs_fn;
GRANT SELECT (invited_by) ON app.invitations TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, name, description, created_at, updated_at) ON app.teams TO exports_jobs_fn;
GRANT SELECT (tenant_id, company, address, vat_id, email, updated_at) ON app.billing TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, number, issued_at, total, currency, status, billed_to) ON app.invoices TO exports_jobs_fn;

-- Whether the sealed organization has a row about the person, by the register: a member, or somebody who was one.
CREATE FUNCTION app.is_subject(person uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place record;
    found boolean := EXISTS (SELECT FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id = person);
BEGIN
    IF found THEN
        RETURN true;
    END IF;
    FOR place IN
        SELECT r.rules ->> 'schema' AS schema, r.rules ->> 'relation' AS relation, s.value ->> 'column' AS name,
               CASE s.value ->> 'match' WHEN 'text' THEN 'text' ELSE 'uuid' END AS kind,
               CASE WHEN s.value ->> 'without' IS NULL THEN 'true'
                    ELSE format('t.%I IS NULL', s.value ->> 'without') END AS condition
        FROM platform.register r CROSS JOIN LATERAL jsonb_array_elements(r.rules -> 'subjects') s
        WHERE (r.rules ->> 'of_tenant')::boolean AND coalesce(s.value ->> 'match', 'account') IN ('account', 'text')
        ORDER BY r.name
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.%I t WHERE t.tenant_id = $1 AND t.%I = $2::%s AND %s)',
                       place.schema, place.relation, place.name, place.kind, place.condition)
        INTO found USING app.tenant_id(), person;
        IF found THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;

-- The sealed person asks for a copy: request, job, and the organizations that the job may enter. Her own data needs
-- nothing; other people's and an organization's need export.create there. False when nobody by that id is known here.
-- squawk-ignore ban-drop-function
DROP FUNCTION platform.request_export(uuid, text);
CREATE FUNCTION platform.request_export(new_id uuid, wanted_scope text, person uuid, wanted_format text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    requester uuid := app.principal_id();
    organization uuid := app.tenant_id();
BEGIN
    IF requester IS NULL OR organization IS NULL OR app.sealed(1) <> 'u'
        OR (wanted_scope <> 'me' AND NOT app.sealed_holds('{export.create}'))
    THEN
        RAISE EXCEPTION 'this person may not ask for that' USING ERRCODE = '42501';
    END IF;
    IF wanted_scope = 'user' AND NOT coalesce(app.is_subject(person), false) THEN
        RETURN false;
    END IF;
    INSERT INTO platform.jobs (id, kind) VALUES (new_id, 'export');
    INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format)
    VALUES (new_id, requester, CASE wanted_scope WHEN 'me' THEN requester WHEN 'user' THEN person END, organization,
            wanted_scope, wanted_format);
    INSERT INTO platform.job_tenants (job_id, tenant_id)
    SELECT new_id, m.tenant_id FROM app.members m WHERE m.user_id = requester
        AND (wanted_scope = 'me' OR m.tenant_id = organization);
    RETURN true;
END
$$;

-- The API keys that the person made in the sealed organization, those that are gone included.
CREATE FUNCTION app.export_keys() RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT app.keys_made_by(platform.export_subject()))
$$;

SET LOCAL ROLE context_definer;
-- The sealed person ends an export: her own, or one of her organization if she may make them. A waiting or running one
-- is cancelled, a ready one expires now. Answers what it became, 'over' when it had ended before, 'denied' when she may
-- only read it, NULL when there is none for her.
CREATE OR REPLACE FUNCTION platform.cancel_export(export uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := app.principal_id();
    found platform.exports;
    outcome text;
BEGIN
    -- The job first, as every step does: two orders would deadlock.
    PERFORM FROM platform.jobs j WHERE j.id = export FOR UPDATE;
    SELECT * INTO found FROM platform.exports e WHERE e.id = export AND app.sealed(1) = 'u' FOR UPDATE;
    IF found.id IS NULL THEN
        RETURN NULL;
    ELSIF found.scope = 'me' AND found.subject_account_id = person THEN
        NULL;
    ELSIF found.scope = 'me' OR found.organization_id <> app.tenant_id()
        OR NOT app.sealed_holds('{export.create}')
    THEN
        RETURN CASE WHEN found.subject_account_id = person THEN 'denied' END;
    END IF;
    outcome := CASE WHEN found.status IN ('queued', 'running') THEN 'cancelled'
                    WHEN found.status = 'ready' THEN 'expired' ELSE 'over' END;
    IF outcome <> 'over' THEN
        UPDATE platform.exports SET status = outcome, expires_at = least(expires_at, clock_timestamp())
        WHERE id = export;
        UPDATE platform.jobs SET status = 'cancelled', finished_at = clock_timestamp()
        WHERE id = export AND status IN ('queued', 'running');
    END IF;
    RETURN outcome;
END
$$;

-- Invitations are found by address. What an organization may know of somebody who is no member is her id.
CREATE OR REPLACE FUNCTION platform.export_subject_email() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.email FROM platform.sealed_export() e JOIN identity.accounts a ON a.id = e.subject_account_id
    WHERE e.scope = 'me'
        OR EXISTS (SELECT FROM app.members m WHERE m.tenant_id = e.organization_id AND m.user_id = a.id)
$$;

-- The link in the mail opens the package to whoever holds it: an organization's goes to nobody who may not have it.
CREATE OR REPLACE FUNCTION platform.claim_export_mail()
RETURNS TABLE (state text, email text, display_name text, object_name text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    export platform.exports;
BEGIN
    SELECT e.* INTO export FROM platform.exports e WHERE e.id IN (SELECT id FROM platform.sealed_export()) FOR UPDATE;
    IF export.mailed_at IS NOT NULL OR export.status IS DISTINCT FROM 'ready' THEN
        RETURN QUERY SELECT 'done', NULL::text, NULL::text, NULL::text;
    ELSIF export.mail_claimed_until > clock_timestamp() THEN
        RETURN QUERY SELECT 'busy', NULL::text, NULL::text, NULL::text;
    ELSE
        UPDATE platform.exports e SET mail_claimed_until = clock_timestamp() + interval '30 seconds'
        WHERE e.id = export.id;
        RETURN QUERY SELECT 'claimed', a.email, a.display_name, export.object_name
        FROM identity.accounts a
        WHERE a.id = export.requested_by AND (export.scope = 'me' OR EXISTS (
            SELECT FROM app.members m
            JOIN app.organizations o ON o.tenant_id = m.tenant_id AND o.suspended_at IS NULL
            LEFT JOIN platform.roles r ON r.name = m.role
            LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
            WHERE m.tenant_id = export.organization_id AND m.user_id = a.id
                AND 'export.create' = ANY (coalesce(r.permissions, c.permissions))));
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'gone', NULL::text, NULL::text, NULL::text;
        END IF;
    END IF;
END
$$;
SET LOCAL ROLE context_owner;
ALTER FUNCTION app.is_subject(uuid) OWNER TO context_definer;
ALTER FUNCTION app.export_keys() OWNER TO context_definer;
ALTER FUNCTION platform.request_export(uuid, text, uuid, text) OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.request_export(uuid, text, uuid, text), app.sealed_holds(text[]) TO exports_fn;
GRANT EXECUTE ON FUNCTION app.export_keys() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;

-- Moving an organization in, by the operator, in one transaction: open, rows of each table (parents first), close.
-- A key that comes without its secret gets one that nobody has; whoever needs it makes a new one.
ALTER TABLE app.api_keys ALTER COLUMN key_hash SET DEFAULT gen_random_uuid();
GRANT SELECT, INSERT ON app.organizations, app.members, app.roles, app.invitations, app.teams, app.team_members,
    app.api_keys, app.billing, app.projects, app.tasks TO context_definer;
GRANT UPDATE ON app.organizations, app.members TO context_definer;

-- Seals the transaction for the organization, a new one or an empty one, which stays locked. Answers 'open' or why not:
-- 'unknown', 'suspended', or the first of `relations` that holds a row.
CREATE FUNCTION platform.open_import(organization uuid, created boolean, relations text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seal text := concat_ws('.', 's', organization, '', '', pg_backend_pid(),
                           (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac bytea;
    known app.organizations;
    relation text;
    filled boolean;
BEGIN
    IF created THEN
        INSERT INTO app.organizations (tenant_id, slug, name) VALUES (organization, organization::text, 'Import');
    END IF;
    SELECT * INTO known FROM app.organizations o WHERE o.tenant_id = organization FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF known.suspended_at IS NOT NULL THEN
        RETURN 'suspended';
    END IF;
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    FOREACH relation IN ARRAY relations LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM app.%I t WHERE t.tenant_id = $1)', relation)
        INTO filled USING organization;
        IF filled THEN
            RETURN relation;
        END IF;
    END LOOP;
    RETURN 'open';
END
$$;

-- Insert rows of one table into the sealed organization, under its policies. `columns` are those that the rows have.
-- With `replaces` a row that is there already takes the values that came: the organization itself, its first members.
CREATE FUNCTION platform.import_rows(relation text, columns text[], rows jsonb, replaces boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    organization uuid := app.tenant_id();
    listed text := (SELECT string_agg(format('%I', name), ', ') FROM unnest(columns) name);
    picked text := (SELECT string_agg(format('r.%I', name), ', ') FROM unnest(columns) name);
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
                   ' SELECT $1, %3$s FROM jsonb_populate_recordset(NULL::app.%1$I, $2) r%4$s',
                   relation, listed, picked, otherwise)
    USING organization, rows;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$$;

-- The import is on the record of the organization; the seal is gone.
CREATE FUNCTION platform.close_import(package text, request text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    organization uuid := app.tenant_id();
BEGIN
    IF organization IS NULL OR app.sealed(1) <> 's' OR app.sealed(3) IS NOT NULL THEN
        RAISE EXCEPTION 'no import is open' USING ERRCODE = '42501';
    END IF;
    PERFORM app.append_audit(jsonb_build_array(jsonb_build_object(
        'action', 'organization.imported', 'resource_type', 'organization', 'resource_id', organization,
        'outcome', 'success', 'request_id', request, 'data', jsonb_build_object('sha256', package),
        'personal', NULL)));
    PERFORM set_config('app.context', '', true);
END
$$;
ALTER FUNCTION platform.open_import(uuid, boolean, text[]) OWNER TO context_definer;
ALTER FUNCTION platform.import_rows(text, text[], jsonb, boolean) OWNER TO context_definer;
ALTER FUNCTION platform.close_import(text, text) OWNER TO context_definer;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.open_import(uuid, boolean, text[]),
    platform.import_rows(text, text[], jsonb, boolean), platform.close_import(text, text) TO context_owner;
SET LOCAL ROLE context_owner;
