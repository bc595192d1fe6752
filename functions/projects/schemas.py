"""Projects and tasks: what comes in, what goes out."""

from marshmallow import fields, validate

from common.schemas import Moment, Page, Schema

PROJECT_STATUS = ("active", "archived")
TASK_STATUS = ("open", "in_progress", "done", "cancelled")
PRIORITY = ("low", "normal", "high", "urgent")
NAME = validate.Length(min=1, max=255)
DESCRIPTION = validate.Length(max=10_000)


class NewProject(Schema):
    """POST /v1/projects."""

    name = fields.String(required=True, validate=NAME)
    description = fields.String(load_default="", validate=DESCRIPTION)
    status = fields.String(load_default="active", validate=validate.OneOf(PROJECT_STATUS))


class ProjectChange(Schema):
    """PATCH /v1/projects/{id}."""

    name = fields.String(validate=NAME)
    description = fields.String(validate=DESCRIPTION)
    status = fields.String(validate=validate.OneOf(PROJECT_STATUS))


class ProjectFilter(Page):
    """GET /v1/projects."""

    status = fields.String(load_default=None, validate=validate.OneOf(PROJECT_STATUS))
    q = fields.String(load_default=None, validate=validate.Length(min=1, max=255))


class Project(Schema):
    """A project."""

    id = fields.UUID(required=True)
    name = fields.String(required=True, validate=NAME)
    description = fields.String(required=True, validate=DESCRIPTION)
    status = fields.String(required=True, validate=validate.OneOf(PROJECT_STATUS))
    created_by = fields.UUID(required=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
    version = fields.Integer(required=True)


class ProjectPage(Schema):
    """A page of projects, newest first."""

    items = fields.List(fields.Nested(Project), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewTask(Schema):
    """POST /v1/projects/{id}/tasks."""

    title = fields.String(required=True, validate=NAME)
    description = fields.String(load_default="", validate=DESCRIPTION)
    status = fields.String(load_default="open", validate=validate.OneOf(TASK_STATUS))
    priority = fields.String(load_default="normal", validate=validate.OneOf(PRIORITY))
    assignee_id = fields.UUID(load_default=None, allow_none=True)
    due_at = Moment(load_default=None, allow_none=True)


class TaskChange(Schema):
    """PATCH /v1/tasks/{id}."""

    title = fields.String(validate=NAME)
    description = fields.String(validate=DESCRIPTION)
    status = fields.String(validate=validate.OneOf(TASK_STATUS))
    priority = fields.String(validate=validate.OneOf(PRIORITY))
    assignee_id = fields.UUID(allow_none=True)
    due_at = Moment(allow_none=True)


class TaskFilter(Page):
    """GET /v1/projects/{id}/tasks."""

    status = fields.String(load_default=None, validate=validate.OneOf(TASK_STATUS))
    assignee_id = fields.UUID(load_default=None)


class Task(Schema):
    """A task."""

    id = fields.UUID(required=True)
    project_id = fields.UUID(required=True)
    title = fields.String(required=True, validate=NAME)
    description = fields.String(required=True, validate=DESCRIPTION)
    status = fields.String(required=True, validate=validate.OneOf(TASK_STATUS))
    priority = fields.String(required=True, validate=validate.OneOf(PRIORITY))
    assignee_id = fields.UUID(required=True, allow_none=True)
    due_at = Moment(required=True, allow_none=True)
    created_by = fields.UUID(required=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
    version = fields.Integer(required=True)


class TaskPage(Schema):
    """A page of tasks, newest first."""

    items = fields.List(fields.Nested(Task), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
