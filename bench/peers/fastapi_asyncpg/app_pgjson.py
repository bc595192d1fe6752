"""The same service with PostgreSQL building the JSON, the approach PostgREST takes."""

import app as lean
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

COLUMNS = lean.COLUMNS
LIST = f"""SELECT '{{"items":' || coalesce(json_agg(p), '[]')::text || '}}' FROM (
               SELECT {COLUMNS} FROM projects ORDER BY created_at DESC, id DESC LIMIT 50) p"""
GET = f"SELECT row_to_json(p)::text FROM (SELECT {COLUMNS} FROM projects WHERE id = $1) p"


async def list_projects(request):
    tenant, _ = lean.authorize(request, "projects:read")
    async with lean.tenant_transaction(tenant) as db:
        return Response(await db.fetchval(LIST), media_type="application/json")


async def get_project(request):
    tenant, _ = lean.authorize(request, "projects:read")
    async with lean.tenant_transaction(tenant) as db:
        found = await db.fetchval(GET, request.path_params["key"])
    if found is None:
        raise HTTPException(404, "not found")
    return Response(found, media_type="application/json")


app = Starlette(
    lifespan=lean.lifespan,
    routes=[
        Route("/api/projects", list_projects, methods=["GET"]),
        Route("/api/projects", lean.create_project, methods=["POST"]),
        Route("/api/projects/{key:uuid}", get_project, methods=["GET"]),
    ],
)
