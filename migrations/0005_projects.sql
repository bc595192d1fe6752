-- Projects and their tasks.

CREATE TABLE app.projects (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT projects_name_per_tenant UNIQUE (tenant_id, name)
);
CREATE INDEX projects_newest ON app.projects (tenant_id, created_at DESC, id DESC);

CREATE TABLE app.tasks (
    tenant_id uuid NOT NULL REFERENCES app.organizations,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 10000),
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'done', 'cancelled')),
    priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    assignee_id uuid,
    due_at timestamptz,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT tasks_of_a_project FOREIGN KEY (tenant_id, project_id)
        REFERENCES app.projects (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX tasks_newest ON app.tasks (tenant_id, project_id, created_at DESC, id DESC);
CREATE INDEX tasks_by_assignee ON app.tasks (tenant_id, assignee_id);

ALTER TABLE app.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.projects FORCE ROW LEVEL SECURITY;
ALTER TABLE app.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON app.projects
    USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
CREATE POLICY tenant ON app.tasks
    USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
ALTER TABLE app.projects ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE app.projects ALTER COLUMN description SET STATISTICS 0;
ALTER TABLE app.tasks ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE app.tasks ALTER COLUMN description SET STATISTICS 0;

GRANT SELECT, INSERT, UPDATE, DELETE ON app.projects, app.tasks TO projects_fn;

CREATE FUNCTION app.project_json(p app.projects) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', p.id, 'name', p.name, 'description', p.description, 'status', p.status, 'created_by', p.created_by,
    'created_at', to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'updated_at', to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', p.version);

CREATE FUNCTION app.task_json(t app.tasks) RETURNS json
LANGUAGE sql STABLE
RETURN json_build_object(
    'id', t.id, 'project_id', t.project_id, 'title', t.title, 'description', t.description, 'status', t.status,
    'priority', t.priority, 'assignee_id', t.assignee_id,
    'due_at', to_char(t.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'created_by', t.created_by,
    'created_at', to_char(t.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'updated_at', to_char(t.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'version', t.version);
GRANT EXECUTE ON FUNCTION app.project_json(app.projects), app.task_json(app.tasks) TO projects_fn;
