"""Retention: what goes out."""

from marshmallow import fields

from common.schemas import Schema


class Drained(Schema):
    """Messages handed to Cloud Tasks, and those that wait for the next run."""

    sent = fields.Integer(required=True)
    waiting = fields.Integer(required=True)


class Requeued(Schema):
    """Jobs that were started anew."""

    stuck = fields.Integer(required=True)
    failed_deletions = fields.Integer(required=True)


class Reminded(Schema):
    """Requests that somebody was reminded of, and the mails that say so; incidents likewise; organizations told."""

    requests = fields.Integer(required=True)
    mails = fields.Integer(required=True)
    incidents = fields.Integer(required=True)
    organizations = fields.Integer(required=True)


class Anchored(Schema):
    """Chains that got an anchor, chains that do not hold and got none, and those that the next run begins with."""

    anchored = fields.Integer(required=True)
    broken = fields.Integer(required=True)
    left = fields.Integer(required=True)


class Wish(Schema):
    """What a run is to do."""

    dry_run = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})


class Report(Schema):
    """Rows that were removed (with `dry_run`: would be), by table, and exports whose files were.

    `complete` is false when time was up or somebody else worked with a table: the next run goes on.
    """

    removed = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    expired_exports = fields.Integer(required=True)
    complete = fields.Boolean(required=True)
    dry_run = fields.Boolean(required=True)
