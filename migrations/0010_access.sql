-- Who may do what, beyond the built-in roles: custom roles, API keys, and people whom an outside provider vouches for.

CREATE TABLE app.roles (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    permissions text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT roles_name_taken UNIQUE (tenant_id, name)
);

-- A member has a built-in role by name or one of the organization's own by id.
-- squawk-ignore ban-drop-not-null
ALTER TABLE app.members ALTER COLUMN role DROP NOT NULL;
ALTER TABLE app.members ADD COLUMN role_id uuid;
-- The check of a new foreign key reads the table as its owner, who sees nothing under FORCE: lifted for that moment.
ALTER TABLE app.members NO FORCE ROW LEVEL SECURITY;
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
ALTER TABLE app.members ADD CONSTRAINT members_role_in_use FOREIGN KEY (tenant_id, role_id) REFERENCES app.roles;
ALTER TABLE app.members FORCE ROW LEVEL SECURITY;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE app.members ADD CONSTRAINT members_one_role CHECK (num_nonnulls(role, role_id) = 1);

-- `key_hash`: the first 128 bits of the SHA-256 of the key, as a UUID; 128 bits of a random secret have no second image.
-- A key ends with the membership of its maker.
CREATE TABLE app.api_keys (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    prefix text NOT NULL,
    key_hash uuid NOT NULL,
    permissions text[] NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (isfinite(expires_at)),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, created_by) REFERENCES app.members (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX api_keys_by_hash ON app.api_keys (key_hash);
CREATE INDEX api_keys_by_maker ON app.api_keys (tenant_id, created_by);
CREATE INDEX members_by_role_id ON app.members (tenant_id, role_id) WHERE role_id IS NOT NULL;

-- A person at an outside provider (OpenID Connect: issuer and subject) who is one of our accounts.
CREATE TABLE identity.federated_identities (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL REFERENCES identity.accounts ON DELETE CASCADE,
    issuer text NOT NULL CHECK (length(issuer) <= 512),
    subject text NOT NULL CHECK (length(subject) <= 255),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT federated_identities_linked UNIQUE (issuer, subject)
);
CREATE INDEX federated_identities_by_account ON identity.federated_identities (account_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['app.roles', 'app.api_keys', 'identity.federated_identities'] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON %s TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO context_definer', name);
    END LOOP;
END
$$;
CREATE POLICY tenant ON app.roles
    USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
CREATE POLICY tenant ON app.api_keys
    USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
CREATE POLICY principal ON identity.federated_identities
    USING (account_id = (SELECT app.principal_id())) WITH CHECK (account_id = (SELECT app.principal_id()));
ALTER TABLE app.roles ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE app.api_keys ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE app.api_keys ALTER COLUMN prefix SET STATISTICS 0;
ALTER TABLE app.api_keys ALTER COLUMN key_hash SET STATISTICS 0;
ALTER TABLE identity.federated_identities ALTER COLUMN issuer SET STATISTICS 0;
ALTER TABLE identity.federated_identities ALTER COLUMN subject SET STATISTICS 0;

SET LOCAL ROLE context_definer;

-- Every organization of the sealed principal, oldest membership first: [{id, slug, name, role}] as JSON text.
CREATE OR REPLACE FUNCTION identity.organizations() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(json_agg(json_build_object('id', o.tenant_id, 'slug', o.slug, 'name', o.name,
                                               'role', coalesce(m.role, r.name))
                             ORDER BY m.created_at, m.tenant_id), '[]')::text
    FROM app.members m JOIN app.organizations o ON o.tenant_id = m.tenant_id
    LEFT JOIN app.roles r ON r.tenant_id = m.tenant_id AND r.id = m.role_id
    WHERE m.user_id = app.principal_id() AND o.suspended_at IS NULL
$$;

-- What the caller's credential is worth now: role and permissions as JSON text. `login_session` is a login session or,
-- for somebody with a token of a trusted issuer, the federated identity; of an API key (kind k) it is the key's hash,
-- and the answer names the key, its organization and its maker: a key may do what it was given and its maker still may.
-- Where the organization's settings say `require_mfa`, a log-in without a second factor is worth no permission (`mfa`
-- is false then): what is left is a person's own data, and enrolling a factor.
-- Raises CX401 when it is dead, CX403 when the organization is suspended.
CREATE OR REPLACE FUNCTION app.credential(
    kind text, tenant uuid, principal uuid, login_session uuid, signs_in boolean
) RETURNS text
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
        WHERE k.key_hash = login_session AND k.expires_at > clock_timestamp();
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no such API key' USING ERRCODE = 'CX401';
        ELSIF suspended IS NOT NULL THEN
            RAISE EXCEPTION 'the organization is suspended' USING ERRCODE = 'CX403';
        END IF;
        RETURN answer;
    ELSIF kind <> 'u' THEN
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
    WHERE m.tenant_id = tenant AND m.user_id = principal;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a member any more' USING ERRCODE = 'CX401';
    ELSIF suspended IS NOT NULL THEN
        RAISE EXCEPTION 'the organization is suspended' USING ERRCODE = 'CX403';
    END IF;
    RETURN answer;
END
$$;

-- As before; of an API key the seal names the organization, the maker and, in the login session's place, the key.
CREATE OR REPLACE FUNCTION app.authorize(token text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
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
    seal := concat_ws('.', part[3], part[4], part[5], part[6], part[7],
                      (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint);
    SELECT sha256(outer_pad || sha256(inner_pad || convert_to(seal, 'UTF8'))) INTO mac FROM platform.seal_key;
    PERFORM set_config('app.context', seal || '.' || encode(mac, 'hex'), true);
    RETURN answer;
END
$$;

-- Append events to the chain of the sealed organization; the actor is the sealed principal or the API key.
-- events: [{action, resource_type, resource_id, outcome, request_id, data, personal: {ip, user_agent} or null}]
CREATE OR REPLACE FUNCTION app.append_audit(events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    kind text := CASE app.sealed(1) WHEN 'u' THEN 'user' WHEN 'k' THEN 'api_key' ELSE 'system' END;
    principal uuid := CASE kind WHEN 'api_key' THEN app.sealed(4)::uuid ELSE app.principal_id() END;
    head app.audit_heads;
    event jsonb;
    moment timestamptz;
    salt text;
    personal_digest text;
    digest text;
BEGIN
    INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (tenant, 0, repeat('0', 64))
    ON CONFLICT (tenant_id) DO NOTHING;
    SELECT * INTO STRICT head FROM app.audit_heads WHERE tenant_id = tenant FOR UPDATE;
    FOR event IN SELECT value FROM jsonb_array_elements(events) LOOP
        head.seq := head.seq + 1;
        moment := clock_timestamp();
        salt := encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
        personal_digest := encode(sha256(convert_to(
            salt || platform.canonical_json(event -> 'personal'), 'UTF8')), 'hex');
        digest := encode(sha256(convert_to(platform.canonical_json(jsonb_build_object(
            'seq', head.seq,
            'at', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'actor', jsonb_build_object('type', kind, 'id', principal),
            'action', event -> 'action',
            'resource', jsonb_build_object('type', event -> 'resource_type', 'id', event -> 'resource_id'),
            'outcome', event -> 'outcome',
            'request_id', event -> 'request_id',
            'data', event -> 'data',
            'personal_hash', personal_digest,
            'prev_hash', head.hash)), 'UTF8')), 'hex');
        INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id,
                                      outcome, request_id, data, personal, personal_salt, personal_hash,
                                      prev_hash, hash)
        VALUES (tenant, head.seq, moment, kind, principal, event ->> 'action', event ->> 'resource_type',
                event ->> 'resource_id', event ->> 'outcome', event ->> 'request_id', event -> 'data',
                nullif(event -> 'personal', 'null'), salt, personal_digest, head.hash, digest);
        head.hash := digest;
    END LOOP;
    UPDATE app.audit_heads SET seq = head.seq, hash = head.hash WHERE tenant_id = tenant;
END
$$;
SET LOCAL ROLE context_owner;
