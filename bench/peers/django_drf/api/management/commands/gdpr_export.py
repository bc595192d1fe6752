"""Export everything held about one user as a zip of JSON Lines files.

--mode models: model instances through ModelSerializer, the code most teams write.
--mode values: .values().iterator() rows through orjson, the tuned form.
"""

import io
import zipfile

import orjson
from django.core.management.base import BaseCommand
from django.db import connection, transaction
from rest_framework import serializers

from api.models import AuditLog, Event, Project, User

CHUNK = 5000


def serializer_for(model, hidden):
    meta = type("Meta", (), {"model": model, "exclude": hidden})
    return type(f"{model.__name__}Export", (serializers.ModelSerializer,), {"Meta": meta})()


class Command(BaseCommand):
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--tenant", required=True)
        parser.add_argument("--user", required=True)
        parser.add_argument("--out", required=True)
        parser.add_argument("--mode", choices=["models", "values"], default="values")
        parser.add_argument("--level", type=int, default=1)

    def handle(self, *, tenant, user, out, mode, level, **_):
        sources = {
            "profile": (User.objects.filter(id=user), ["password"]),
            "projects": (Project.objects.filter(owner_id=user).order_by("created_at", "id"), []),
            "audit_log": (AuditLog.objects.filter(actor_id=user).order_by("id"), []),
            "events": (Event.objects.filter(user_id=user).order_by("id"), []),
        }
        encode = self.models if mode == "models" else self.values
        with transaction.atomic(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant])
            for name, (query, hidden) in sources.items():
                with (
                    archive.open(f"{name}.jsonl", "w", force_zip64=True) as raw,
                    io.BufferedWriter(raw, 1 << 18) as file,
                ):
                    encode(query, hidden, file.write)

    @staticmethod
    def models(query, hidden, write):
        serialize = serializer_for(query.model, hidden).to_representation
        for item in query.iterator(CHUNK):
            write(orjson.dumps(serialize(item), option=orjson.OPT_APPEND_NEWLINE))

    @staticmethod
    def values(query, hidden, write):
        columns = [f.attname for f in query.model._meta.concrete_fields if f.attname not in hidden]
        for row in query.values(*columns).iterator(CHUNK):
            write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
