"""Projects and tasks: literal SQL, one function per query."""

from typing import Any

from common import errors, pagination
from common.db import Tx, Written
from common.wire import DatabaseError, violates

NAME_TAKEN = "Another project of this organization has this name."


def list_projects(
    tx: Tx, *, limit: int, after: list[str] | None, status: str | None, q: str | None
) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT string_agg(item, E'\\n')
        FROM (
            SELECT app.project_text(p) AS item
            FROM app.projects p
            WHERE p.tenant_id = :tenant_id
                AND (p.created_at, p.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:status AS text) IS NULL OR p.status = :status)
                AND (CAST(:q AS text) IS NULL OR strpos(lower(p.name), lower(:q)) > 0)
            ORDER BY p.created_at DESC, p.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        status=status,
        q=q,
    )
    return pagination.page(rows[0][0], limit)


def select_project(tx: Tx, project_id: str) -> Written:
    """One project. Raises 404."""
    project = tx.written(
        """
        SELECT p.id, app.project_text(p), p.version FROM app.projects p
        WHERE p.tenant_id = :tenant_id AND p.id = :project_id
        """,
        project_id=project_id,
    )
    if project is None:
        raise errors.not_found()
    return project


def insert_project(tx: Tx, *, name: str, description: str, status: str) -> Written:
    """The new project. Raises 409 `project_name_taken`."""
    try:
        project = tx.written(
            """
            INSERT INTO app.projects AS p (tenant_id, name, description, status, created_by)
            VALUES (:tenant_id, :name, :description, :status, :user_id)
            RETURNING p.id, app.project_text(p), p.version
            """,
            name=name,
            description=description,
            status=status,
        )
    except DatabaseError as error:
        if violates(error, "projects_name_per_tenant"):
            raise errors.conflict("project_name_taken", NAME_TAKEN) from error
        raise
    return _there(project)


def update_project(tx: Tx, project_id: str, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed project. Raises 404, 409 `project_name_taken`, 412."""
    try:
        project = tx.written(
            """
            UPDATE app.projects AS p
            SET name = coalesce(:name, p.name), description = coalesce(:description, p.description),
                status = coalesce(:status, p.status), updated_at = now(), version = p.version + 1
            WHERE p.tenant_id = :tenant_id AND p.id = :project_id
                AND (CAST(:if_match AS integer) IS NULL OR p.version = :if_match)
            RETURNING p.id, app.project_text(p), p.version
            """,
            project_id=project_id,
            if_match=if_match,
            **{name: change.get(name) for name in ("name", "description", "status")},
        )
    except DatabaseError as error:
        if violates(error, "projects_name_per_tenant"):
            raise errors.conflict("project_name_taken", NAME_TAKEN) from error
        raise
    if project is None:
        select_project(tx, project_id)
        raise errors.Problem("precondition_failed")
    return project


def delete_project(tx: Tx, project_id: str, if_match: int | None) -> None:
    """Delete a project and its tasks. Raises 404, 412."""
    deleted = tx.row(
        """
        DELETE FROM app.projects
        WHERE tenant_id = :tenant_id AND id = :project_id
            AND (CAST(:if_match AS integer) IS NULL OR version = :if_match)
        RETURNING id
        """,
        project_id=project_id,
        if_match=if_match,
    )
    if deleted is None:
        select_project(tx, project_id)
        raise errors.Problem("precondition_failed")


def list_tasks(
    tx: Tx,
    project_id: str,
    *,
    limit: int,
    after: list[str] | None,
    status: str | None,
    assignee_id: str | None,
) -> tuple[str, list[str] | None]:
    """A page of a project's tasks, and the ordering values of its last item when more follow. Raises 404."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT string_agg(item, E'\\n'),
               EXISTS (SELECT FROM app.projects WHERE tenant_id = :tenant_id AND id = :project_id)
        FROM (
            SELECT app.task_text(t) AS item
            FROM app.tasks t
            WHERE t.tenant_id = :tenant_id AND t.project_id = :project_id
                AND (t.created_at, t.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:status AS text) IS NULL OR t.status = :status)
                AND (CAST(:assignee_id AS uuid) IS NULL OR t.assignee_id = :assignee_id)
            ORDER BY t.created_at DESC, t.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        project_id=project_id,
        limit=limit,
        time=time,
        last=last,
        status=status,
        assignee_id=assignee_id,
    )
    lines, known = rows[0]
    if not known:
        raise errors.not_found()
    return pagination.page(lines, limit)


def select_task(tx: Tx, task_id: str) -> Written:
    """One task. Raises 404."""
    task = tx.written(
        """
        SELECT t.id, app.task_text(t), t.version FROM app.tasks t
        WHERE t.tenant_id = :tenant_id AND t.id = :task_id
        """,
        task_id=task_id,
    )
    if task is None:
        raise errors.not_found()
    return task


def insert_task(tx: Tx, project_id: str, task: dict[str, Any]) -> Written:
    """The new task. Raises 404 for an unknown project."""
    try:
        return _there(
            tx.written(
                """
                INSERT INTO app.tasks AS t
                    (tenant_id, project_id, title, description, status, priority, assignee_id, due_at, created_by)
                VALUES (:tenant_id, :project_id, :title, :description, :status, :priority, :assignee_id, :due_at,
                        :user_id)
                RETURNING t.id, app.task_text(t), t.version
                """,
                project_id=project_id,
                **task,
            )
        )
    except DatabaseError as error:
        if violates(error, "tasks_of_a_project"):
            raise errors.not_found() from error
        raise


def update_task(tx: Tx, task_id: str, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed task; `assignee_id` and `due_at` may be set to nothing. Raises 404, 412."""
    task = tx.written(
        """
        UPDATE app.tasks AS t
        SET title = coalesce(:title, t.title), description = coalesce(:description, t.description),
            status = coalesce(:status, t.status), priority = coalesce(:priority, t.priority),
            assignee_id = CASE WHEN :assigns THEN CAST(:assignee_id AS uuid) ELSE t.assignee_id END,
            due_at = CASE WHEN :dates THEN CAST(:due_at AS timestamptz) ELSE t.due_at END,
            updated_at = now(), version = t.version + 1
        WHERE t.tenant_id = :tenant_id AND t.id = :task_id
            AND (CAST(:if_match AS integer) IS NULL OR t.version = :if_match)
        RETURNING t.id, app.task_text(t), t.version
        """,
        task_id=task_id,
        if_match=if_match,
        assigns="assignee_id" in change,
        dates="due_at" in change,
        **{name: change.get(name) for name in ("title", "description", "status", "priority", "assignee_id", "due_at")},
    )
    if task is None:
        select_task(tx, task_id)
        raise errors.Problem("precondition_failed")
    return task


def delete_task(tx: Tx, task_id: str, if_match: int | None) -> None:
    """Delete a task. Raises 404, 412."""
    deleted = tx.row(
        """
        DELETE FROM app.tasks
        WHERE tenant_id = :tenant_id AND id = :task_id
            AND (CAST(:if_match AS integer) IS NULL OR version = :if_match)
        RETURNING id
        """,
        task_id=task_id,
        if_match=if_match,
    )
    if deleted is None:
        select_task(tx, task_id)
        raise errors.Problem("precondition_failed")


def is_member(tx: Tx, user_id: str) -> bool:
    """Whether a person belongs to the organization."""
    found = tx.value(
        "SELECT EXISTS (SELECT FROM app.members WHERE tenant_id = :tenant_id AND user_id = :member)", member=user_id
    )
    return bool(found)


def _there(written: Written | None) -> Written:
    if written is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return written
