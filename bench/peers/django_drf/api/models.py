"""Models over the shared schema (db/schema.sql owns the tables)."""

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class User(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    email = models.EmailField(unique=True)
    role = models.CharField(max_length=10)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    USERNAME_FIELD = "email"
    objects = BaseUserManager()

    class Meta:
        managed = False
        db_table = "users"


class Project(models.Model):
    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        ARCHIVED = "archived"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    owner_id = models.UUIDField()
    name = models.CharField(max_length=200)
    description = models.CharField(max_length=4000, blank=True, default="")
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        managed = False
        db_table = "projects"


class AuditLog(models.Model):
    tenant_id = models.UUIDField()
    actor_id = models.UUIDField()
    action = models.TextField()
    entity = models.TextField()
    entity_id = models.UUIDField()
    data = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        managed = False
        db_table = "audit_log"


class Event(models.Model):
    tenant_id = models.UUIDField()
    user_id = models.UUIDField()
    kind = models.TextField()
    payload = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "events"
