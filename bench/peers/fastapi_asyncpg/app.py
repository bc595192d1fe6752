"""As lean as it gets in Python without giving up the guarantees: Starlette, raw asyncpg, orjson."""

import base64
import binascii
import os
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import jwt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

SECRET = os.environ["JWT_SECRET"]
PERMISSIONS = {
    "viewer": {"projects:read"},
    "member": {"projects:read", "projects:write"},
    "admin": {"projects:read", "projects:write", "tenant:admin"},
}
COLUMNS = "id, owner_id, name, description, status, created_at, updated_at"
LIST = f"SELECT {COLUMNS} FROM projects ORDER BY created_at DESC, id DESC LIMIT $1"
LIST_AFTER = f"""SELECT {COLUMNS} FROM projects WHERE (created_at, id) < ($2, $3)
                 ORDER BY created_at DESC, id DESC LIMIT $1"""
GET = f"SELECT {COLUMNS} FROM projects WHERE id = $1"
# The row and its audit row in one statement, hence one round trip.
CREATE = f"""WITH p AS (INSERT INTO projects (tenant_id, owner_id, name, description, status)
                        VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}),
                  a AS (INSERT INTO audit_log (tenant_id, actor_id, action, entity, entity_id, data)
                        SELECT $1, $2, 'create', 'project', p.id, $6::jsonb FROM p)
             SELECT * FROM p"""


class Connection(asyncpg.Connection):
    def get_reset_query(self):
        return ""  # every unit of work is a transaction with SET LOCAL only: nothing to reset


async def init(db):
    # UUIDs travel as text both ways: they only ever become JSON strings.
    await db.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")


class ProjectIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=4000)
    status: Literal["active", "paused", "archived"] = "active"


class Json(Response):
    media_type = "application/json"

    def render(self, content):
        return orjson.dumps(content)


def authorize(request, permission):
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise ValueError
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
        tenant, user = UUID(claims["tenant_id"]), UUID(claims["sub"])
    except (jwt.InvalidTokenError, KeyError, ValueError):
        raise HTTPException(401, "invalid token", {"WWW-Authenticate": "Bearer"}) from None
    if permission not in PERMISSIONS.get(claims.get("role"), ()):
        raise HTTPException(403, "forbidden")
    return tenant, user


@asynccontextmanager
async def tenant_transaction(tenant: UUID):
    async with pool.acquire() as db:
        # `tenant` is a parsed UUID: safe as a literal, so BEGIN and the setting share one round trip.
        await db.execute(f"BEGIN; SET LOCAL app.tenant_id = '{tenant}'")
        try:
            yield db
        except BaseException:
            await db.execute("ROLLBACK")
            raise
        await db.execute("COMMIT")


async def list_projects(request):
    tenant, _ = authorize(request, "projects:read")
    try:
        limit = int(request.query_params.get("limit", 50))
        if not 1 <= limit <= 100:
            raise ValueError
        args = [limit + 1]
        if cursor := request.query_params.get("cursor"):
            at, _, key = base64.urlsafe_b64decode(cursor).decode().partition("|")
            args += [datetime.fromisoformat(at), UUID(key)]
    except (ValueError, binascii.Error):
        raise HTTPException(422, "invalid query") from None
    async with tenant_transaction(tenant) as db:
        rows = await db.fetch(LIST_AFTER if cursor else LIST, *args)
    after = None
    if len(rows) > limit:
        rows.pop()
        after = base64.urlsafe_b64encode(f"{rows[-1]['created_at'].isoformat()}|{rows[-1]['id']}".encode()).decode()
    return Json({"items": [dict(r) for r in rows], "next_cursor": after})


async def get_project(request):
    tenant, _ = authorize(request, "projects:read")
    async with tenant_transaction(tenant) as db:
        row = await db.fetchrow(GET, request.path_params["key"])
    if row is None:
        raise HTTPException(404, "not found")
    return Json(dict(row))


async def create_project(request):
    tenant, user = authorize(request, "projects:write")
    body = await request.body()
    try:
        new = ProjectIn.model_validate_json(body)
    except ValidationError as error:
        return Response(error.json(include_url=False), 422, media_type="application/json")
    async with tenant_transaction(tenant) as db:
        row = await db.fetchrow(CREATE, tenant, user, new.name, new.description, new.status, new.model_dump_json())
    return Json(dict(row), 201)


@asynccontextmanager
async def lifespan(_):
    global pool
    size = int(os.environ.get("DB_POOL", "8"))
    async with asyncpg.create_pool(
        min_size=2, max_size=size, connection_class=Connection, init=init, max_inactive_connection_lifetime=0
    ) as pool:
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/api/projects", list_projects, methods=["GET"]),
        Route("/api/projects", create_project, methods=["POST"]),
        Route("/api/projects/{key:uuid}", get_project, methods=["GET"]),
    ],
)
