-- API keys in use; the billing address of an organization and its invoices, which outlive it.

-- An organization without a row has not told its address yet: that is version 1, and the first change makes version 2.
CREATE TABLE app.billing (
    tenant_id uuid PRIMARY KEY REFERENCES app.organizations,
    company text CHECK (length(company) BETWEEN 1 AND 255),
    address text CHECK (length(address) BETWEEN 1 AND 1000),
    vat_id text CHECK (length(vat_id) BETWEEN 4 AND 20),
    email text CHECK (length(email) BETWEEN 3 AND 254),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 2
);

-- Tax law wants invoices for years, so that nothing here refers to the organization: they stay when it is erased.
-- `total` is in the currency's minor unit (ISO 4217), negative for a credit note. `billed_to` is the address of that day.
CREATE TABLE app.invoices (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    number text NOT NULL CHECK (length(number) BETWEEN 1 AND 64),
    issued_at timestamptz NOT NULL,
    total bigint NOT NULL CHECK (abs(total) < 9007199254740992), -- exact in every JSON reader (RFC 8259, section 6)
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status text NOT NULL CHECK (status IN ('open', 'paid', 'void')),
    billed_to jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT invoices_number UNIQUE (tenant_id, number)
);
CREATE INDEX invoices_newest ON app.invoices (tenant_id, issued_at DESC, id DESC);
CREATE INDEX invoices_by_age ON app.invoices (issued_at);
CREATE INDEX api_keys_newest ON app.api_keys (tenant_id, created_at DESC, id DESC);
CREATE INDEX api_keys_by_end ON app.api_keys (expires_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['billing', 'invoices'] LOOP
        EXECUTE format('ALTER TABLE app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE app.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON app.%I TO context_definer USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY tenant ON app.%I USING (tenant_id = (SELECT app.tenant_id()))'
                       ' WITH CHECK (tenant_id = (SELECT app.tenant_id()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON app.%I TO context_definer', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['api_keys', 'billing'] LOOP
        EXECUTE format('CREATE POLICY erased_as_a_whole ON app.%I AS RESTRICTIVE FOR DELETE TO deletions_jobs_fn'
                       ' USING ((SELECT platform.erases_organization()))', name);
        EXECUTE format('GRANT DELETE ON app.%I TO deletions_jobs_fn', name);
    END LOOP;
END
$$;
ALTER TABLE app.billing ALTER COLUMN company SET STATISTICS 0;
ALTER TABLE app.billing ALTER COLUMN address SET STATISTICS 0;
ALTER TABLE app.billing ALTER COLUMN vat_id SET STATISTICS 0;
ALTER TABLE app.billing ALTER COLUMN email SET STATISTICS 0;
ALTER TABLE app.invoices ALTER COLUMN billed_to SET STATISTICS 0;

-- The function makes keys for the person of its seal alone, no mightier than the seal, and cannot read a hash back.
CREATE POLICY maker ON app.api_keys AS RESTRICTIVE FOR INSERT TO organizations_fn
    WITH CHECK (created_by = (SELECT app.principal_id()) AND app.sealed_holds(permissions));
GRANT SELECT (tenant_id, id, name, prefix, permissions, created_by, created_at, expires_at, version), DELETE,
    INSERT (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at) ON app.api_keys TO organizations_fn;
GRANT SELECT ON platform.roles TO organizations_fn;
GRANT SELECT, INSERT, UPDATE ON app.billing TO organizations_fn;
GRANT SELECT (tenant_id, id, number, issued_at, total, currency, status) ON app.invoices TO organizations_fn;
GRANT EXECUTE ON FUNCTION platform.utc(timestamptz) TO organizations_fn;
GRANT SELECT (tenant_id, id) ON app.api_keys TO deletions_jobs_fn;
GRANT SELECT (tenant_id) ON app.billing TO deletions_jobs_fn;
GRANT SELECT (tenant_id, id, name, prefix, permissions, created_by, created_at, expires_at)
    ON app.api_keys TO exports_jobs_fn;

-- Write an invoice of an organization: the platform's own act, for no function's login. A number that is there keeps
-- date, total and address; only the status follows. Answers its id, NULL when there is no such organization.
CREATE FUNCTION platform.put_invoice(
    organization uuid, new_number text, issued timestamptz, new_total bigint, new_currency text, new_status text
) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO app.invoices (tenant_id, number, issued_at, total, currency, status, billed_to)
    SELECT o.tenant_id, new_number, issued, new_total, new_currency, new_status,
           jsonb_build_object('company', coalesce(b.company, o.name), 'address', b.address, 'vat_id', b.vat_id)
    FROM app.organizations o LEFT JOIN app.billing b ON b.tenant_id = o.tenant_id WHERE o.tenant_id = organization
    ON CONFLICT ON CONSTRAINT invoices_number DO UPDATE SET status = excluded.status
    RETURNING id
$$;
ALTER FUNCTION platform.put_invoice(uuid, text, timestamptz, bigint, text, text) OWNER TO context_definer;

SET LOCAL ROLE context_definer;
GRANT EXECUTE ON FUNCTION platform.put_invoice(uuid, text, timestamptz, bigint, text, text) TO context_owner;

-- What erasure and retention do grows by three tables: each function below keeps what it did, under a new name, and
-- adds its part. Callers see no rename: in the same transaction the old name is there again, with the same arguments.
-- squawk-ignore renaming-object
ALTER FUNCTION app.subject_counts(uuid, boolean) RENAME TO subject_counts_of_members;
CREATE FUNCTION app.subject_counts(person uuid, whole boolean)
RETURNS TABLE (table_name text, action text, row_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.table_name, c.action, c.row_count FROM app.subject_counts_of_members(person, whole) c
    UNION ALL
    SELECT 'app.api_keys', 'delete', count(*)
    FROM app.api_keys k WHERE k.tenant_id = app.tenant_id() AND (whole OR k.created_by = person)
    UNION ALL
    SELECT 'app.audit_events', 'null', count(*)
    FROM app.audit_events e
    WHERE NOT whole AND e.tenant_id = app.tenant_id() AND e.personal IS NOT NULL
        AND e.actor_id IN (SELECT app.keys_made_by(person))
    UNION ALL
    SELECT 'app.billing', 'delete', count(*) FROM app.billing b WHERE whole AND b.tenant_id = app.tenant_id()
    UNION ALL
    SELECT 'app.invoices', 'keep', count(*) FROM app.invoices i WHERE whole AND i.tenant_id = app.tenant_id()
$$;

-- Her keys go first: with the membership they would go uncounted.
-- squawk-ignore renaming-object
ALTER FUNCTION platform.leave_organization() RENAME TO end_membership;
CREATE FUNCTION platform.leave_organization() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    erased bigint;
BEGIN
    DELETE FROM app.api_keys k WHERE k.tenant_id = app.tenant_id() AND k.created_by = platform.erased_subject();
    GET DIAGNOSTICS erased = ROW_COUNT;
    PERFORM platform.count_erased('app.api_keys', 'delete', erased);
    RETURN platform.end_membership();
END
$$;

-- What her keys did came from where her programs run: address and user agent of those events are hers to erase as well.
-- Which keys she made, the chain still knows when they are gone.
CREATE FUNCTION app.keys_made_by(person uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN e.resource_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN e.resource_id::uuid END
    FROM app.audit_events e
    WHERE e.tenant_id = app.tenant_id() AND e.actor_id = person AND e.action = 'api_key.created'
        AND e.outcome = 'success'
$$;

CREATE OR REPLACE FUNCTION app.erase_personal(most integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person uuid := platform.erased_subject();
    actors uuid[] := array(SELECT person UNION ALL SELECT app.keys_made_by(person));
    erased bigint[];
BEGIN
    WITH hers AS (
        SELECT e.seq FROM app.audit_events e
        WHERE e.tenant_id = app.tenant_id() AND e.personal IS NOT NULL
            AND (e.actor_id = ANY (actors) OR (e.actor_id IS NULL AND e.resource_id = person::text))
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

-- What stays of an organization that is gone is counted when its last row has gone, once.
-- squawk-ignore renaming-object
ALTER FUNCTION platform.organization_done() RENAME TO mark_organization_done;
CREATE FUNCTION platform.organization_done() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM platform.deletion_organizations o
    WHERE o.job_id = app.principal_id() AND o.tenant_id = app.tenant_id() AND o.mode = 'whole' AND o.done_at IS NULL
    FOR UPDATE;
    IF FOUND THEN
        PERFORM platform.count_erased('app.invoices', 'keep', count(*))
        FROM app.invoices i WHERE i.tenant_id = app.tenant_id();
    END IF;
    PERFORM platform.mark_organization_done();
END
$$;

-- squawk-ignore renaming-object
ALTER FUNCTION platform.retire(text, interval, integer) RENAME TO retire_rows;
CREATE FUNCTION platform.retire(wanted text, period interval, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    edge timestamptz := clock_timestamp() - period;
    retired integer;
BEGIN
    IF period < interval '0' THEN
        RAISE EXCEPTION 'a period is not negative' USING ERRCODE = '22023';
    ELSIF wanted = 'app.invoices' THEN
        DELETE FROM app.invoices WHERE (tenant_id, id) IN (
            SELECT i.tenant_id, i.id FROM app.invoices i WHERE i.issued_at < edge LIMIT most FOR UPDATE SKIP LOCKED);
    ELSIF wanted = 'app.api_keys' THEN
        DELETE FROM app.api_keys WHERE (tenant_id, id) IN (
            SELECT k.tenant_id, k.id FROM app.api_keys k WHERE k.expires_at < edge LIMIT most FOR UPDATE SKIP LOCKED);
    ELSE
        RETURN platform.retire_rows(wanted, period, most);
    END IF;
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;

GRANT EXECUTE ON FUNCTION platform.leave_organization(), platform.organization_done() TO deletions_jobs_fn;
GRANT EXECUTE ON FUNCTION platform.retire(text, interval, integer) TO retention_fn;
REVOKE EXECUTE ON FUNCTION platform.end_membership(), platform.mark_organization_done() FROM deletions_jobs_fn;
REVOKE EXECUTE ON FUNCTION platform.retire_rows(text, interval, integer) FROM retention_fn;
-- Functions that the definer makes are open to PUBLIC by default.
REVOKE EXECUTE ON FUNCTION app.subject_counts(uuid, boolean), app.keys_made_by(uuid), platform.leave_organization(),
    platform.organization_done(), platform.retire(text, interval, integer) FROM PUBLIC;
SET LOCAL ROLE context_owner;
