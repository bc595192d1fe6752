"""Projects and their tasks."""

from typing import Any

from werkzeug.wrappers import Request, Response

from common import errors
from common.http import Call, Json, Routes
from functions.projects import queries
from functions.projects.schemas import (
    NewProject,
    NewTask,
    Project,
    ProjectChange,
    ProjectFilter,
    ProjectPage,
    Task,
    TaskChange,
    TaskFilter,
    TaskPage,
)

routes = Routes("projects")
PROJECT = "/v1/projects/<uuid:project_id>"
TASK = "/v1/tasks/<uuid:task_id>"


@routes.on(
    "GET", "/v1/projects", needs="project.view", query=ProjectFilter, body=None, answers=ProjectPage, single=True
)
def list_projects(call: Call) -> Json:
    """List projects, newest first."""
    query = call.query
    items, last = queries.list_projects(
        call.tx, limit=query["limit"], after=call.after(), status=query["status"], q=query["q"]
    )
    return call.page(items, last)


@routes.on("POST", "/v1/projects", needs="project.create", body=NewProject, answers=Project, status=201)
def create_project(call: Call) -> Json:
    """Create a project in the caller's organization."""
    project = queries.insert_project(call.tx, **call.body)
    call.audit("project.created", project.id)
    call.headers["Location"] = f"/v1/projects/{project.id}"
    return project


@routes.on("GET", PROJECT, needs="project.view", body=None, answers=Project, single=True)
def get_project(call: Call) -> Json:
    """Read a project."""
    return queries.select_project(call.tx, call.path["project_id"])


@routes.on("PATCH", PROJECT, needs="project.update", body=ProjectChange, answers=Project)
def change_project(call: Call) -> Json:
    """Change some fields of a project."""
    project = queries.update_project(call.tx, call.path["project_id"], call.if_match, call.body)
    call.audit("project.updated", project.id, fields=sorted(call.body))
    return project


@routes.on("DELETE", PROJECT, needs="project.delete", body=None, answers=None, status=204)
def delete_project(call: Call) -> None:
    """Delete a project with its tasks."""
    queries.delete_project(call.tx, call.path["project_id"], call.if_match)
    call.audit("project.deleted", call.path["project_id"])


@routes.on("GET", f"{PROJECT}/tasks", needs="task.view", query=TaskFilter, body=None, answers=TaskPage, single=True)
def list_tasks(call: Call) -> Json:
    """List the tasks of a project, newest first."""
    query = call.query
    items, last = queries.list_tasks(
        call.tx,
        call.path["project_id"],
        limit=query["limit"],
        after=call.after(),
        status=query["status"],
        assignee_id=query["assignee_id"],
    )
    return call.page(items, last)


@routes.on("POST", f"{PROJECT}/tasks", needs="task.create", body=NewTask, answers=Task, status=201)
def create_task(call: Call) -> Json:
    """Create a task in a project."""
    check_assignee(call)
    task = queries.insert_task(call.tx, call.path["project_id"], call.body)
    call.audit("task.created", task.id)
    call.headers["Location"] = f"/v1/tasks/{task.id}"
    return task


@routes.on("GET", TASK, needs="task.view", body=None, answers=Task, single=True)
def get_task(call: Call) -> Json:
    """Read a task."""
    return queries.select_task(call.tx, call.path["task_id"])


@routes.on("PATCH", TASK, needs="task.update", body=TaskChange, answers=Task)
def change_task(call: Call) -> Json:
    """Change some fields of a task."""
    check_assignee(call)
    task = queries.update_task(call.tx, call.path["task_id"], call.if_match, call.body)
    call.audit("task.updated", task.id, fields=sorted(call.body))
    return task


@routes.on("DELETE", TASK, needs="task.delete", body=None, answers=None, status=204)
def delete_task(call: Call) -> None:
    """Delete a task."""
    queries.delete_task(call.tx, call.path["task_id"], call.if_match)
    call.audit("task.deleted", call.path["task_id"])


def check_assignee(call: Call) -> None:
    """422 for an assignee outside the organization."""
    assignee: Any = call.body.get("assignee_id")
    if assignee is not None and not queries.is_member(call.tx, str(assignee)):
        raise errors.invalid({"assignee_id": ["Not a member of this organization."]})


def projects(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
