"""FastAPI + SQLAlchemy 2 (async ORM) + asyncpg, the way its documentation teaches it."""

import base64
import binascii
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import URL, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["JWT_SECRET"]
PERMISSIONS = {
    "viewer": {"projects:read"},
    "member": {"projects:read", "projects:write"},
    "admin": {"projects:read", "projects:write", "tenant:admin"},
}
engine = create_async_engine(
    URL.create(
        "postgresql+asyncpg",
        os.environ["PGUSER"],
        os.environ["PGPASSWORD"],
        os.environ["PGHOST"],
        int(os.environ["PGPORT"]),
        os.environ["PGDATABASE"],
    ),
    pool_size=int(os.environ.get("DB_POOL", "8")),
    max_overflow=0,
    pool_use_lifo=True,
)
Session = async_sessionmaker(engine, expire_on_commit=False)
SET_TENANT = text("SELECT set_config('app.tenant_id', :tenant, true)")


class Base(DeclarativeBase):
    pass


class Project(Base):
    __tablename__ = "projects"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    name: Mapped[str]
    description: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    __mapper_args__ = {"eager_defaults": True}


class AuditLog(Base):
    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    actor_id: Mapped[UUID]
    action: Mapped[str]
    entity: Mapped[str]
    entity_id: Mapped[UUID]
    data: Mapped[dict] = mapped_column(JSONB)


class ProjectIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=4000)
    status: Literal["active", "paused", "archived"] = "active"


class ProjectOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    owner_id: UUID
    name: str
    description: str
    status: str
    created_at: datetime
    updated_at: datetime


class ProjectPage(BaseModel):
    items: list[ProjectOut]
    next_cursor: str | None


class Claims(BaseModel):
    sub: UUID
    tenant_id: UUID
    role: str


async def claims(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> Claims:
    try:
        return Claims(
            **jwt.decode(bearer.credentials, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
        )
    except (jwt.InvalidTokenError, ValueError):
        raise HTTPException(401, "invalid token", {"WWW-Authenticate": "Bearer"}) from None


def require(permission: str):
    async def check(who: Annotated[Claims, Depends(claims)]) -> Claims:
        if permission not in PERMISSIONS.get(who.role, ()):
            raise HTTPException(403, "forbidden")
        return who

    return Annotated[Claims, Depends(check)]


Reader, Writer = require("projects:read"), require("projects:write")


async def tenant_session(who: Annotated[Claims, Depends(claims)]) -> AsyncIterator[AsyncSession]:
    async with Session.begin() as session:
        await session.execute(SET_TENANT, {"tenant": str(who.tenant_id)})
        yield session


# scope="function": the transaction commits before the response is sent.
Db = Annotated[AsyncSession, Depends(tenant_session, scope="function")]


@asynccontextmanager
async def lifespan(_: FastAPI):
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


def encode_cursor(project: Project) -> str:
    return base64.urlsafe_b64encode(f"{project.created_at.isoformat()}|{project.id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, key = base64.urlsafe_b64decode(cursor).decode().partition("|")
        return datetime.fromisoformat(at), UUID(key)
    except (ValueError, binascii.Error):
        raise HTTPException(422, "invalid cursor") from None


@app.get("/api/projects")
async def list_projects(
    who: Reader, db: Db, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
) -> ProjectPage:
    query = select(Project).order_by(Project.created_at.desc(), Project.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(tuple_(Project.created_at, Project.id) < decode_cursor(cursor))
    rows = (await db.scalars(query)).all()
    more = len(rows) > limit
    return ProjectPage(
        items=[ProjectOut.model_validate(r) for r in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1]) if more else None,
    )


@app.get("/api/projects/{key}")
async def get_project(key: UUID, who: Reader, db: Db) -> ProjectOut:
    project = await db.get(Project, key)
    if project is None:
        raise HTTPException(404, "not found")
    return ProjectOut.model_validate(project)


@app.post("/api/projects", status_code=201)
async def create_project(body: ProjectIn, who: Writer, db: Db) -> ProjectOut:
    project = Project(id=uuid4(), tenant_id=who.tenant_id, owner_id=who.sub, **body.model_dump())
    db.add_all(
        [
            project,
            AuditLog(
                tenant_id=who.tenant_id,
                actor_id=who.sub,
                action="create",
                entity="project",
                entity_id=project.id,
                data=body.model_dump(),
            ),
        ]
    )
    await db.flush()
    return ProjectOut.model_validate(project)
