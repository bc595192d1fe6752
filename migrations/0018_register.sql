-- Erasure and retention from one register: its rules in the database, legal holds, and requests of every scope.

-- common/register.yaml, compiled by common/register_rules.py and loaded after every migration. The functions below build
-- their SQL from it; `position` is the order of erasure, rows that hang on others first.
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

-- A request may be about a person everywhere (me), a person in one organization (user), or an organization. A child does
-- its parent's part in one organization; a follow-up erases what a legal hold kept, or what a restored backup brought back.
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
    ADD COLUMN reminded_at timestamptz,
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
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE platform.deletion_organizations
    DROP CONSTRAINT deletion_organizations_mode_check,
    ADD CONSTRAINT deletion_organizations_mode_check CHECK (mode IN ('keep', 'erase', 'whole')),
    ADD COLUMN left_at timestamptz,
    ADD COLUMN counted_at timestamptz;

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
CREATE INDEX legal_holds_in_force ON app.legal_holds (tenant_id, subject_user_id) WHERE released_at IS NULL;
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

-- Erase up to `most` rows in the sealed organization, counted; 0 when nothing is left. `mode` must be the one that
-- platform.enter_organization decided.
CREATE FUNCTION app.erase_batch(mode text, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 0;
END
$$;

-- Rows of the sealed organization that legal holds keep from an erasure, and until when.
CREATE FUNCTION app.held_counts(person uuid, mode text)
RETURNS TABLE (table_name text, row_count bigint, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'x', 0::bigint, NULL::timestamptz WHERE false
$$;

-- The same for the platform's own rows: the account of a person with a hold anywhere.
CREATE FUNCTION platform.held_counts(person uuid)
RETURNS TABLE (table_name text, row_count bigint, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'x', 0::bigint, NULL::timestamptz WHERE false
$$;

-- What erasure in a mode does, or will do, to the rows about a person in the sealed organization.
CREATE FUNCTION app.subject_counts(person uuid, mode text)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.table_name, c.action, c.row_count FROM app.subject_counts(person, mode = 'whole') c
$$;

-- Whether this very transaction has ended the membership of the person.
CREATE FUNCTION platform.membership_ended() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM platform.deletion_organizations o
                   WHERE o.job_id = app.principal_id() AND o.tenant_id = app.tenant_id() AND o.left_at = now())
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'platform.sealed_deletion()', 'app.erase_batch(text, integer)', 'app.held_counts(uuid, text)',
        'platform.held_counts(uuid)', 'app.subject_counts(uuid, text)', 'platform.membership_ended()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO context_definer', signature);
    END LOOP;
END
$$;
SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION app.erase_batch(text, integer), platform.membership_ended() TO deletions_jobs_fn;
SET LOCAL ROLE context_owner;
