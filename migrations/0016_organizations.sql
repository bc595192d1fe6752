-- Organizations from within: members and roles that can be changed, invitations, teams; and suspension by the operator.

CREATE INDEX members_newest ON app.members (tenant_id, created_at DESC, user_id DESC);
CREATE INDEX roles_newest ON app.roles (tenant_id, created_at DESC, id DESC);

-- `role` is the name of a built-in role or, beside `role_id`, what the organization's own was called at the time. The
-- link's secret is made when the mail is sent: `token_hash` is of generation `armed`, and a resend begins a new one.
CREATE TABLE app.invitations (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    email text NOT NULL CHECK (length(email) <= 254),
    role text NOT NULL CHECK (length(role) BETWEEN 1 AND 64),
    role_id uuid,
    invited_by uuid,
    generation integer NOT NULL DEFAULT 1,
    armed integer,
    token_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT invitations_role_in_use FOREIGN KEY (tenant_id, role_id) REFERENCES app.roles,
    CONSTRAINT invitations_inviter FOREIGN KEY (tenant_id, invited_by)
        REFERENCES app.members (tenant_id, user_id) ON DELETE SET NULL (invited_by)
);
CREATE UNIQUE INDEX invitations_one_open ON app.invitations (tenant_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invitations_newest ON app.invitations (tenant_id, created_at DESC, id DESC);
CREATE INDEX invitations_by_role ON app.invitations (tenant_id, role_id) WHERE role_id IS NOT NULL;
CREATE INDEX invitations_by_inviter ON app.invitations (tenant_id, invited_by);
CREATE INDEX invitations_by_id ON app.invitations (id);
CREATE INDEX invitations_by_token ON app.invitations (token_hash) WHERE token_hash IS NOT NULL;
CREATE INDEX invitations_by_email ON app.invitations (email);
CREATE INDEX invitations_by_end ON app.invitations (expires_at);

CREATE TABLE app.teams (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT teams_name_taken UNIQUE (tenant_id, name)
);
CREATE INDEX teams_newest ON app.teams (tenant_id, created_at DESC, id DESC);

CREATE TABLE app.team_members (
    tenant_id uuid NOT NULL,
    team_id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, team_id, user_id),
    CONSTRAINT team_members_of_a_team FOREIGN KEY (tenant_id, team_id) REFERENCES app.teams ON DELETE CASCADE,
    CONSTRAINT team_members_are_members FOREIGN KEY (tenant_id, user_id)
        REFERENCES app.members (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX team_members_newest ON app.team_members (tenant_id, team_id, created_at DESC, user_id DESC);
CREATE INDEX team_members_by_user ON app.team_members (tenant_id, user_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['invitations', 'teams', 'team_members'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['invitations', 'teams', 'team_members', 'roles'] LOOP
        EXECUTE format('CREATE POLICY erased_as_a_whole ON app.%I AS RESTRICTIVE FOR DELETE TO deletions_jobs_fn'
                       ' USING ((SELECT platform.erases_organization()))', name);
        EXECUTE format('GRANT DELETE ON app.%I TO deletions_jobs_fn', name);
    END LOOP;
END
$$;
ALTER TABLE app.invitations ALTER COLUMN email SET STATISTICS 0;
ALTER TABLE app.invitations ALTER COLUMN role SET STATISTICS 0;
ALTER TABLE app.invitations ALTER COLUMN token_hash SET STATISTICS 0;
ALTER TABLE app.teams ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE app.teams ALTER COLUMN description SET STATISTICS 0;

-- An invitation is looked up by its secret before anybody is known, and erased wherever the person's address stands;
-- teams only under the organization's seal.
CREATE POLICY definer ON app.invitations TO context_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.invitations TO context_definer;
GRANT SELECT, DELETE ON app.teams, app.team_members TO context_definer;

-- New members come by invitation alone, through the auth function; the secret of a link is none of this function's.
GRANT UPDATE (role, role_id, updated_at, version), DELETE ON app.members TO organizations_fn;
GRANT SELECT ON platform.roles TO organizations_fn;
GRANT SELECT, DELETE, INSERT (tenant_id, name, permissions), UPDATE (name, permissions, updated_at, version)
    ON app.roles TO organizations_fn;
GRANT SELECT, INSERT (tenant_id, email, role, role_id, invited_by, expires_at),
    UPDATE (role, role_id, invited_by, generation, sent_at, expires_at, revoked_at, version) ON app.invitations
    TO organizations_fn;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.teams TO organizations_fn;
GRANT SELECT, INSERT, DELETE ON app.team_members TO organizations_fn;
GRANT SELECT (tenant_id, id) ON app.invitations, app.teams, app.roles TO deletions_jobs_fn;
GRANT SELECT (tenant_id, team_id, user_id) ON app.team_members TO deletions_jobs_fn;
GRANT SELECT (role_id) ON app.members TO exports_jobs_fn;
GRANT SELECT (tenant_id, id, email, role, role_id, created_at, sent_at, expires_at, accepted_at, revoked_at)
    ON app.invitations TO exports_jobs_fn;
GRANT SELECT (tenant_id, team_id, user_id, created_at) ON app.team_members TO exports_jobs_fn;

CREATE POLICY invitations ON platform.outbox FOR INSERT TO organizations_fn
    WITH CHECK (kind = 'mail' AND name = 'invitation'
                AND EXISTS (SELECT FROM app.invitations i
                            WHERE i.tenant_id = (SELECT app.tenant_id()) AND i.id = reference));
GRANT INSERT (id, kind, name, reference, task_name, not_before) ON platform.outbox TO organizations_fn;

-- The built-in roles among the others: their ids are constants of the product.
CREATE FUNCTION platform.role_id(builtin text) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN ('00000000-0000-4000-8000-00000000000'
        || (6 - array_position(ARRAY['owner', 'admin', 'developer', 'member', 'viewer'], builtin)))::uuid;

CREATE FUNCTION app.role_json(id uuid, name text, permissions text[], builtin boolean, version integer) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object('id', id, 'name', name,
                         'permissions', ARRAY(SELECT code FROM unnest(permissions) AS code ORDER BY code COLLATE "C"),
                         'builtin', builtin, 'version', version);

CREATE FUNCTION app.invitation_json(i app.invitations, role_name text) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', i.id, 'email', i.email, 'role', coalesce(role_name, i.role), 'invited_by', i.invited_by,
    'status', CASE WHEN i.accepted_at IS NOT NULL THEN 'accepted' WHEN i.revoked_at < i.expires_at THEN 'revoked'
                   WHEN i.expires_at <= now() THEN 'expired' ELSE 'pending' END,
    'created_at', to_char(i.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'expires_at', to_char(i.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', i.version);

CREATE FUNCTION app.team_json(t app.teams) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', t.id, 'name', t.name, 'description', t.description,
    'created_at', to_char(t.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'updated_at', to_char(t.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', t.version);
GRANT EXECUTE ON FUNCTION platform.role_id(text), app.role_json(uuid, text, text[], boolean, integer),
    app.invitation_json(app.invitations, text), app.team_json(app.teams) TO organizations_fn;

-- Names and addresses of these members of the sealed organization.
CREATE FUNCTION app.people(wanted uuid[]) RETURNS TABLE (user_id uuid, email text, display_name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id, a.email, a.display_name
    FROM app.members m JOIN identity.accounts a ON a.id = m.user_id
    WHERE m.tenant_id = app.tenant_id() AND m.user_id = ANY (wanted)
$$;

-- Whether the sealed organization has a member with this address; nothing about anybody else.
CREATE FUNCTION app.has_member(wanted text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM identity.accounts a JOIN app.members m ON m.user_id = a.id
                   WHERE a.email = wanted AND m.tenant_id = app.tenant_id())
$$;

-- Whether the sealed organization has an owner beside this person; one who is being erased does not count. The caller
-- has locked the organization, so that the answer holds until its transaction ends.
CREATE FUNCTION app.has_other_owner(person uuid) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM app.members m JOIN identity.accounts a ON a.id = m.user_id
        WHERE m.tenant_id = app.tenant_id() AND m.user_id <> person AND m.role = 'owner' AND a.status = 'active'
            AND NOT EXISTS (SELECT FROM platform.deletions d WHERE d.subject_id = m.user_id AND d.finished_at IS NULL))
$$;

-- Whether the sealed person, or her sealed key, holds all of these permissions now.
CREATE FUNCTION app.sealed_holds(codes text[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM app.members m
        LEFT JOIN platform.roles r ON r.name = m.role
        LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
        LEFT JOIN app.api_keys k ON app.sealed(1) = 'k' AND k.tenant_id = m.tenant_id AND k.id = app.sealed(4)::uuid
        WHERE m.tenant_id = app.tenant_id() AND m.user_id = app.principal_id()
            AND codes <@ coalesce(r.permissions, c.permissions) AND (app.sealed(1) = 'u' OR codes <@ k.permissions))
$$;

-- The same of a role: a built-in one by name, or one of the sealed organization's own by id.
CREATE FUNCTION app.sealed_may_give(role_name text, own_role uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(app.sealed_holds(CASE WHEN own_role IS NULL
        THEN (SELECT r.permissions FROM platform.roles r WHERE r.name = role_name)
        ELSE (SELECT c.permissions FROM app.roles c WHERE c.tenant_id = app.tenant_id() AND c.id = own_role) END), false)
$$;

-- The log-ins of somebody who has left the sealed organization end there for good: a later membership revives none.
CREATE FUNCTION identity.end_sessions_here(person uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE identity.login_sessions s SET revoked_at = clock_timestamp()
    WHERE s.account_id = person AND s.tenant_id = app.tenant_id() AND s.revoked_at IS NULL
        AND NOT EXISTS (SELECT FROM app.members m WHERE m.tenant_id = app.tenant_id() AND m.user_id = person)
$$;

-- What the mail of an invitation needs while it is being sent: no row when there is nothing to accept any more.
CREATE FUNCTION identity.mail_invitation(mail uuid)
RETURNS TABLE (email text, generation integer, organization text, seconds_left bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.email, i.generation, o.name, extract(epoch FROM i.expires_at - clock_timestamp())::bigint
    FROM platform.outbox x JOIN app.invitations i ON i.id = x.reference
    JOIN app.organizations o ON o.tenant_id = i.tenant_id AND o.suspended_at IS NULL
    WHERE x.id = mail AND x.name = 'invitation' AND x.claimed_until > clock_timestamp() AND x.delivered_at IS NULL
        AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > clock_timestamp() AND app.is_nobody()
$$;

-- From here on the link of this generation works; false when a resend was faster.
CREATE FUNCTION identity.arm_invitation(mail uuid, made integer, hash bytea) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH armed AS (
        UPDATE app.invitations i SET token_hash = hash, armed = made
        FROM platform.outbox x
        WHERE x.id = mail AND x.name = 'invitation' AND x.claimed_until > clock_timestamp()
            AND x.delivered_at IS NULL AND i.id = x.reference AND i.generation = made AND i.accepted_at IS NULL
            AND i.revoked_at IS NULL AND app.is_nobody()
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM armed)
$$;

-- What stands behind a mailed secret: an open invitation that its inviter could make today as well. An inviter who has
-- left, or lost the right, has nothing to give: somebody who has it sends the invitation again in her own name.
-- The organization is locked first, as by everybody who changes members or roles: two orders would deadlock.
CREATE FUNCTION app.open_invitation(mailed bytea) RETURNS app.invitations
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    invited app.invitations;
    given text[];
    held text[];
BEGIN
    PERFORM FROM app.organizations o
    WHERE o.tenant_id = (SELECT i.tenant_id FROM app.invitations i WHERE i.token_hash = mailed)
    FOR NO KEY UPDATE;
    SELECT i.* INTO invited FROM app.invitations i
    WHERE i.token_hash = mailed AND i.armed = i.generation AND i.accepted_at IS NULL AND i.revoked_at IS NULL
        AND i.expires_at > clock_timestamp()
    FOR UPDATE;
    IF invited.role_id IS NULL THEN
        SELECT r.permissions INTO given FROM platform.roles r WHERE r.name = invited.role;
    ELSE
        SELECT r.permissions INTO given FROM app.roles r
        WHERE r.tenant_id = invited.tenant_id AND r.id = invited.role_id;
    END IF;
    SELECT coalesce(r.permissions, c.permissions) INTO held
    FROM app.members m JOIN identity.accounts a ON a.id = m.user_id AND a.status = 'active'
    LEFT JOIN platform.roles r ON r.name = m.role
    LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
    WHERE m.tenant_id = invited.tenant_id AND m.user_id = invited.invited_by;
    IF given <@ held AND 'users.invite' = ANY (held) THEN
        RETURN invited;
    END IF;
    RETURN NULL;
END
$$;

-- Whom a mailed secret invites, before anybody is known: her address, the organization, and her account if there is one.
-- `live` is how many of her organizations she can log in to.
CREATE FUNCTION identity.find_invitation(mailed bytea)
RETURNS TABLE (email text, organization text, account_id uuid, password_hash text, live integer)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.email, o.name, a.id, CASE WHEN a.status = 'active' THEN a.password_hash END,
           (SELECT count(*)::integer FROM app.members m JOIN app.organizations l ON l.tenant_id = m.tenant_id
            WHERE m.user_id = a.id AND l.suspended_at IS NULL)
    FROM app.open_invitation(mailed) i JOIN app.organizations o ON o.tenant_id = i.tenant_id
    LEFT JOIN identity.accounts a ON a.email = i.email
    WHERE app.is_nobody()
$$;

-- Accept: the sealed person when the address is hers; sealed for nobody, a new account with this name and password.
-- The mailbox has answered, so that registrations which wait for it are void. Outcome: joined, member (she is one
-- already), suspended, login_required (there is an account, and it is not the sealed one's) or unknown.
-- Raises a violation of accounts_email_taken when an account with the address came to be meanwhile.
CREATE FUNCTION identity.accept_invitation(mailed bytea, new_name text, new_hash text)
RETURNS TABLE (outcome text, account_id uuid, tenant_id uuid, invitation_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := CASE app.sealed(1) WHEN 'u' THEN app.principal_id() END;
    invited app.invitations;
BEGIN
    IF person IS NOT NULL OR app.is_nobody() THEN
        invited := app.open_invitation(mailed);
    END IF;
    IF invited.id IS NULL THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid, NULL::uuid, NULL::uuid;
        RETURN;
    ELSIF EXISTS (SELECT FROM app.organizations o
                  WHERE o.tenant_id = invited.tenant_id AND o.suspended_at IS NOT NULL) THEN
        RETURN QUERY SELECT 'suspended', NULL::uuid, NULL::uuid, NULL::uuid;
        RETURN;
    ELSIF person IS NULL AND new_hash IS NOT NULL THEN
        INSERT INTO identity.accounts (email, display_name, password_hash)
        VALUES (invited.email, new_name, new_hash) RETURNING id INTO person;
    ELSIF NOT EXISTS (SELECT FROM identity.accounts a
                      WHERE a.id = person AND a.email = invited.email AND a.status = 'active') THEN
        RETURN QUERY SELECT 'login_required', NULL::uuid, NULL::uuid, NULL::uuid;
        RETURN;
    END IF;
    INSERT INTO app.members (tenant_id, user_id, role, role_id)
    VALUES (invited.tenant_id, person, CASE WHEN invited.role_id IS NULL THEN invited.role END, invited.role_id)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'member', person, invited.tenant_id, invited.id;
        RETURN;
    END IF;
    UPDATE app.invitations i SET accepted_at = clock_timestamp(), token_hash = NULL, version = i.version + 1
    WHERE i.tenant_id = invited.tenant_id AND i.id = invited.id;
    DELETE FROM identity.registrations r WHERE r.email = invited.email;
    RETURN QUERY SELECT 'joined', person, invited.tenant_id, invited.id;
END
$$;

-- What the platform's operator did stands in the organization's chain, by a system actor: the transaction is sealed for
-- that moment. No function's login may call it.
CREATE FUNCTION platform.record_operator(
    organization uuid, done text, resource_type text, resource_id uuid, reason text, request text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seal text := concat_ws('.', 's', organization, '', '', pg_backend_pid(),
                           (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    mac bytea;
BEGIN
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    PERFORM app.append_audit(jsonb_build_array(jsonb_build_object(
        'action', done, 'resource_type', resource_type, 'resource_id', resource_id, 'outcome', 'success',
        'request_id', request, 'data', jsonb_build_object('reason', reason), 'personal', NULL)));
    PERFORM set_config('app.context', '', true);
END
$$;

-- The platform's operator stops or starts an organization; nobody works in a stopped one. Outcome: changed, unchanged,
-- erasing (it is on its way out and stays stopped) or unknown. No function's login may call it.
CREATE FUNCTION platform.set_suspended(organization uuid, wanted boolean, reason text, request text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known app.organizations;
BEGIN
    SELECT * INTO known FROM app.organizations o WHERE o.tenant_id = organization FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF EXISTS (SELECT FROM platform.deletion_organizations d
                  WHERE d.tenant_id = organization AND d.mode = 'whole') THEN
        RETURN 'erasing';
    ELSIF wanted = (known.suspended_at IS NOT NULL) THEN
        RETURN 'unchanged';
    END IF;
    UPDATE app.organizations o SET suspended_at = CASE WHEN wanted THEN clock_timestamp() END
    WHERE o.tenant_id = organization;
    PERFORM platform.record_operator(
        organization, CASE WHEN wanted THEN 'organization.suspended' ELSE 'organization.resumed' END,
        'organization', organization, reason, request);
    RETURN 'changed';
END
$$;

-- The platform's operator ends the login sessions of an account or, given none, of everybody; how many there were. Log-ins
-- that wait for a second factor end with them.
-- No function's login may call it.
CREATE FUNCTION platform.end_sessions(person uuid, reason text, request text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended record;
    total integer := 0;
BEGIN
    DELETE FROM identity.mfa_challenges c WHERE person IS NULL OR c.account_id = person;
    FOR ended IN
        WITH gone AS (
            UPDATE identity.login_sessions s SET revoked_at = clock_timestamp()
            WHERE (person IS NULL OR s.account_id = person) AND s.revoked_at IS NULL
                AND s.expires_at > clock_timestamp()
            RETURNING s.tenant_id
        )
        SELECT g.tenant_id, count(*)::integer AS sessions,
               EXISTS (SELECT FROM app.organizations o WHERE o.tenant_id = g.tenant_id) AS lives
        FROM gone g GROUP BY g.tenant_id ORDER BY g.tenant_id
    LOOP
        total := total + ended.sessions;
        IF ended.lives THEN
            BEGIN
                PERFORM platform.record_operator(
                    ended.tenant_id, 'login.ended_by_operator', 'login', person, reason, request);
            EXCEPTION WHEN unique_violation THEN -- a chain that was tampered with: no reason to leave anybody logged in
                RAISE WARNING 'the audit chain of organization % takes no event', ended.tenant_id;
            END;
        END IF;
    END LOOP;
    RETURN total;
END
$$;

CREATE FUNCTION platform.export_subject_email() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.email FROM identity.accounts a WHERE a.id = platform.export_subject()
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'app.people(uuid[])', 'app.has_member(text)', 'app.has_other_owner(uuid)', 'identity.end_sessions_here(uuid)',
        'app.sealed_holds(text[])', 'app.sealed_may_give(text, uuid)',
        'identity.mail_invitation(uuid)', 'identity.arm_invitation(uuid, integer, bytea)',
        'app.open_invitation(bytea)', 'identity.find_invitation(bytea)',
        'identity.accept_invitation(bytea, text, text)', 'platform.set_suspended(uuid, boolean, text, text)',
        'platform.record_operator(uuid, text, text, uuid, text, text)', 'platform.end_sessions(uuid, text, text)',
        'platform.export_subject_email()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.people(uuid[]), app.has_member(text), app.has_other_owner(uuid),
    app.sealed_holds(text[]), app.sealed_may_give(text, uuid), identity.end_sessions_here(uuid),
    platform.outbox_sent(uuid) TO organizations_fn;
GRANT EXECUTE ON FUNCTION identity.mail_invitation(uuid), identity.arm_invitation(uuid, integer, bytea),
    identity.find_invitation(bytea), identity.accept_invitation(bytea, text, text) TO auth_fn;
GRANT EXECUTE ON FUNCTION platform.set_suspended(uuid, boolean, text, text), platform.end_sessions(uuid, text, text)
    TO context_owner;
GRANT EXECUTE ON FUNCTION platform.export_subject_email() TO exports_jobs_fn;
SET LOCAL ROLE context_owner;

-- Nobody gives, takes or changes what they lack, whatever statement the function is made to run. An invitation is in the
-- name of whoever makes it or sends it again; one that is over may be touched by anybody who may revoke.
CREATE POLICY changer ON app.members AS RESTRICTIVE FOR UPDATE TO organizations_fn
    USING (app.sealed_may_give(role, role_id)) WITH CHECK (app.sealed_may_give(role, role_id));
CREATE POLICY remover ON app.members AS RESTRICTIVE FOR DELETE TO organizations_fn
    USING (user_id = (SELECT app.principal_id()) OR app.sealed_may_give(role, role_id));
CREATE POLICY maker ON app.roles AS RESTRICTIVE FOR INSERT TO organizations_fn
    WITH CHECK (app.sealed_holds(permissions));
CREATE POLICY changer ON app.roles AS RESTRICTIVE FOR UPDATE TO organizations_fn
    USING (app.sealed_holds(permissions)) WITH CHECK (app.sealed_holds(permissions));
CREATE POLICY remover ON app.roles AS RESTRICTIVE FOR DELETE TO organizations_fn
    USING (app.sealed_holds(permissions));
CREATE POLICY inviter ON app.invitations AS RESTRICTIVE FOR INSERT TO organizations_fn
    WITH CHECK (invited_by = (SELECT app.principal_id()) AND app.sealed_may_give(role, role_id));
CREATE POLICY sender ON app.invitations AS RESTRICTIVE FOR UPDATE TO organizations_fn
    WITH CHECK (accepted_at IS NOT NULL OR revoked_at IS NOT NULL OR expires_at <= now()
                OR (invited_by = (SELECT app.principal_id()) AND app.sealed_may_give(role, role_id)));
REVOKE UPDATE ON app.organizations FROM organizations_fn; -- of 0003: suspension is the operator's
GRANT UPDATE (name, settings, updated_at, version) ON app.organizations TO organizations_fn;
SET LOCAL ROLE context_definer;

-- What erasure and retention do grows by these tables: each function below keeps what it did, under a new name: no code calls
-- the old one. Invitations to the person's address are the platform's to erase, wherever they stand.
-- squawk-ignore renaming-object
ALTER FUNCTION app.subject_counts(uuid, boolean) RENAME TO subject_counts_of_content;
CREATE FUNCTION app.subject_counts(person uuid, whole boolean)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.table_name, c.action, c.row_count FROM app.subject_counts_of_content(person, whole) c
    UNION ALL
    SELECT 'app.team_members', 'delete', count(*)
    FROM app.team_members t WHERE t.tenant_id = app.tenant_id() AND (whole OR t.user_id = person)
    UNION ALL
    SELECT 'app.teams', 'delete', count(*) FROM app.teams t WHERE whole AND t.tenant_id = app.tenant_id()
    UNION ALL
    SELECT 'app.roles', 'delete', count(*) FROM app.roles r WHERE whole AND r.tenant_id = app.tenant_id()
    UNION ALL
    SELECT 'app.invitations', CASE WHEN whole THEN 'delete' ELSE 'null' END, count(*)
    FROM app.invitations i
    WHERE i.tenant_id = app.tenant_id() AND (whole OR i.invited_by = person)
        AND i.email <> (SELECT a.email FROM identity.accounts a WHERE a.id = person)
$$;

-- squawk-ignore renaming-object
ALTER FUNCTION platform.subject_counts(uuid) RENAME TO subject_counts_of_account;
CREATE FUNCTION platform.subject_counts(person uuid) RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.table_name, c.action, c.row_count FROM platform.subject_counts_of_account(person) c
    UNION ALL
    SELECT 'app.invitations', 'delete', count(*)
    FROM app.invitations i JOIN identity.accounts a ON a.email = i.email WHERE a.id = person
$$;

-- squawk-ignore renaming-object
ALTER FUNCTION platform.subject_references(uuid) RENAME TO subject_references_of_account;
CREATE FUNCTION platform.subject_references(person uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT platform.subject_references_of_account(person)
    UNION ALL
    SELECT i.id FROM app.invitations i JOIN identity.accounts a ON a.email = i.email WHERE a.id = person
$$;

-- The mails of an invitation go with it, and kept answers about it. Addresses and outbox first, the account last.
-- squawk-ignore renaming-object
ALTER FUNCTION platform.erase_account(integer) RENAME TO erase_account_rows;
CREATE FUNCTION platform.erase_account(most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hers uuid[];
    mails bigint;
    erased bigint;
BEGIN
    SELECT array_agg(found.id) INTO hers FROM (
        SELECT i.id FROM app.invitations i JOIN platform.deletions d ON d.mail_to = i.email
        WHERE d.job_id = app.principal_id() AND d.subject_id = platform.erased_subject() LIMIT most) AS found;
    IF hers IS NULL THEN
        RETURN platform.erase_account_rows(most);
    END IF;
    DELETE FROM platform.outbox o WHERE o.reference = ANY (hers);
    GET DIAGNOSTICS mails = ROW_COUNT;
    PERFORM platform.count_erased('platform.outbox', 'delete', mails);
    DELETE FROM app.idempotent_answers a USING app.invitations i -- what those who invited her were answered
    WHERE i.id = ANY (hers) AND a.tenant_id = i.tenant_id AND strpos(a.body, i.email) > 0;
    GET DIAGNOSTICS erased = ROW_COUNT;
    PERFORM platform.count_erased('app.idempotent_answers', 'delete', erased);
    DELETE FROM app.invitations i WHERE i.id = ANY (hers);
    GET DIAGNOSTICS erased = ROW_COUNT;
    PERFORM platform.count_erased('app.invitations', 'delete', erased);
    RETURN mails + erased;
END
$$;

-- Her teams and what she invited others to, before the membership goes: with it they would go uncounted.
-- squawk-ignore renaming-object
ALTER FUNCTION platform.leave_organization() RENAME TO leave_as_member;
CREATE FUNCTION platform.leave_organization() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
BEGIN
    PERFORM platform.count_erased(c.table_name, c.action, c.row_count) FROM app.subject_counts(person, false) c
    WHERE c.table_name IN ('app.team_members', 'app.invitations');
    DELETE FROM app.team_members t WHERE t.tenant_id = app.tenant_id() AND t.user_id = person;
    UPDATE app.invitations i SET invited_by = NULL WHERE i.tenant_id = app.tenant_id() AND i.invited_by = person;
    RETURN platform.leave_as_member();
END
$$;

-- squawk-ignore renaming-object
ALTER FUNCTION platform.retire(text, interval, integer) RENAME TO retire_before_invitations;
CREATE FUNCTION platform.retire(wanted text, period interval, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    retired integer;
BEGIN
    IF wanted <> 'app.invitations' OR period < interval '0' THEN
        RETURN platform.retire_before_invitations(wanted, period, most);
    END IF;
    DELETE FROM app.invitations WHERE (tenant_id, id) IN (
        SELECT i.tenant_id, i.id FROM app.invitations i WHERE i.expires_at < clock_timestamp() - period
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;

GRANT EXECUTE ON FUNCTION platform.leave_organization(), platform.erase_account(integer) TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.retire(text, interval, integer) TO retention_fn;
REVOKE EXECUTE ON FUNCTION platform.leave_as_member(), platform.erase_account_rows(integer) FROM deletions_jobs_fn;
REVOKE EXECUTE ON FUNCTION platform.retire_before_invitations(text, interval, integer) FROM retention_fn;
REVOKE EXECUTE ON FUNCTION app.subject_counts(uuid, boolean), platform.subject_counts(uuid),
    platform.subject_references(uuid), platform.erase_account(integer), platform.leave_organization(),
    platform.retire(text, interval, integer) FROM PUBLIC;
SET LOCAL ROLE context_owner;
