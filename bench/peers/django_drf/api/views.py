from rest_framework import serializers, viewsets
from rest_framework.pagination import CursorPagination

from api.models import AuditLog, Project


class ProjectSerializer(serializers.ModelSerializer):
    # Handed over as they are: orjson encodes UUIDs and datetimes natively, far
    # faster than UUIDField and DateTimeField turn them into strings.
    id = serializers.ReadOnlyField()
    owner_id = serializers.ReadOnlyField()
    created_at = serializers.ReadOnlyField()
    updated_at = serializers.ReadOnlyField()

    class Meta:
        model = Project
        fields = ["id", "owner_id", "name", "description", "status", "created_at", "updated_at"]


class NewestFirst(CursorPagination):
    page_size = 50
    ordering = ("-created_at", "-id")


class ProjectViewSet(viewsets.ModelViewSet):
    queryset = Project.objects.all()
    serializer_class = ProjectSerializer
    pagination_class = NewestFirst
    http_method_names = ["get", "post", "patch", "delete"]
    permissions = {
        "GET": "projects:read",
        "POST": "projects:write",
        "PATCH": "projects:write",
        "DELETE": "projects:write",
    }

    def perform_create(self, serializer):
        project = serializer.save(tenant_id=self.request._request.tenant_id, owner_id=self.request.user.id)
        self.audit("create", project, serializer.validated_data)

    def perform_update(self, serializer):
        self.audit("update", serializer.save(), serializer.validated_data)

    def perform_destroy(self, project):
        self.audit("delete", project, {})
        project.delete()

    def audit(self, action, project, data):
        AuditLog.objects.create(
            tenant_id=self.request._request.tenant_id,
            actor_id=self.request.user.id,
            action=action,
            entity="project",
            entity_id=project.id,
            data=dict(data),
        )
