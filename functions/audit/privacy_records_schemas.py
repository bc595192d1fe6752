"""The data map and the records of Art. 30 GDPR, as common/privacy.py computes them from the register."""

from marshmallow import fields, validate

from common.register_parts import CONTROLLERS
from common.register_tables import CLASSES, ERASURES, REFERENCES, SOURCES
from common.schemas import Schema


class Operator(Schema):
    """Who runs this deployment, and whom to write to."""

    name = fields.String(required=True)
    contact = fields.String(required=True)
    representative = fields.String(required=True)
    data_protection_officer = fields.String(required=True)


class Activity(Schema):
    """Something that data are processed for; `controller` decides about it (Art. 4(7))."""

    name = fields.String(required=True)
    title = fields.String(required=True)
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    purpose = fields.String(required=True)


class Recipient(Schema):
    """Who gets data, where, and by which safeguard when that is a third country."""

    name = fields.String(required=True)
    text = fields.String(required=True)
    kind = fields.String(required=True)
    place = fields.String(required=True)
    given = fields.String(required=True)
    transfer = fields.String(required=True, allow_none=True)


class MappedSubject(Schema):
    """Whom a row is about, by which column, and what an erasure does."""

    column = fields.String(required=True)
    role = fields.String(required=True)
    export = fields.Boolean(required=True)
    erase = fields.String(required=True, validate=validate.OneOf(ERASURES))
    policy_erase = fields.String(required=True, validate=validate.OneOf(ERASURES))
    erasure = fields.String(required=True)


class MappedColumn(Schema):
    """A column: its class, whether a person's copy holds it, and what an erasure does with it."""

    name = fields.String(required=True)
    class_ = fields.String(required=True, data_key="class", validate=validate.OneOf(CLASSES))
    export = fields.Boolean(required=True)
    erase = fields.String(required=True, validate=validate.OneOf(ERASURES))


class MappedReference(Schema):
    """A foreign key, and what an erasure does with it."""

    name = fields.String(required=True)
    columns = fields.List(fields.String(), required=True)
    parent = fields.String(required=True)
    rule = fields.String(required=True, validate=validate.OneOf(REFERENCES))


class MappedTable(Schema):
    """A table of the database."""

    table = fields.String(required=True)
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    activity = fields.String(required=True)
    purpose = fields.String(required=True)
    legal_basis = fields.String(required=True)
    source = fields.String(required=True, validate=validate.OneOf(SOURCES))
    collected_from = fields.String(required=True)
    people = fields.List(fields.String(), required=True)
    data = fields.List(fields.String(), required=True)
    subjects = fields.List(fields.Nested(MappedSubject), required=True)
    recipients = fields.List(fields.String(), required=True)
    storage_period = fields.String(required=True)
    storage_ground = fields.String(required=True)
    portable = fields.Boolean(required=True, allow_none=True)
    references = fields.List(fields.Nested(MappedReference), required=True)
    columns = fields.List(fields.Nested(MappedColumn), required=True)


class MappedPlace(Schema):
    """A place beside the tables: files, logs, backups."""

    place = fields.String(required=True)
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    activity = fields.String(required=True)
    purpose = fields.String(required=True)
    legal_basis = fields.String(required=True)
    people = fields.List(fields.String(), required=True)
    data = fields.List(fields.String(), required=True)
    recipients = fields.List(fields.String(), required=True)
    storage_period = fields.String(required=True)
    storage_ground = fields.String(required=True)
    erasure = fields.String(required=True)


class DataMap(Schema):
    """Where personal data are, computed from the register that drives export, erasure and retention."""

    operator = fields.Nested(Operator, required=True)
    controllers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    people = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    data = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    activities = fields.List(fields.Nested(Activity), required=True)
    recipients = fields.List(fields.Nested(Recipient), required=True)
    tables = fields.List(fields.Nested(MappedTable), required=True)
    places = fields.List(fields.Nested(MappedPlace), required=True)
    transfers_to_third_countries = fields.String(required=True)


class TimeLimit(Schema):
    """How long data of a place are kept, and why."""

    of = fields.String(required=True)
    period = fields.String(required=True)
    ground = fields.String(required=True)


class RecordedActivity(Schema):
    """An activity of a record: whose data, which, for whom, how long."""

    activity = fields.String(required=True)
    title = fields.String(required=True)
    purposes = fields.List(fields.String(), required=True)
    legal_bases = fields.List(fields.String(), required=True)
    data_subjects = fields.List(fields.String(), required=True)
    data_categories = fields.List(fields.String(), required=True)
    recipients = fields.List(fields.String(), required=True)
    transfers = fields.List(fields.String(), required=True)
    time_limits = fields.List(fields.Nested(TimeLimit), required=True)


class Measure(Schema):
    """A technical or organizational measure (Art. 32)."""

    title = fields.String(required=True)
    text = fields.String(required=True)


class Contact(Schema):
    """An organization on whose behalf data are processed."""

    name = fields.String(required=True)
    contact = fields.String(required=True)


class ControllerRecord(Schema):
    """Art. 30(1): what the operator processes as controller."""

    record = fields.String(required=True)
    controller = fields.Nested(Operator, required=True)
    activities = fields.List(fields.Nested(RecordedActivity), required=True)
    security_measures = fields.List(fields.Nested(Measure), required=True)


class ProcessorRecord(Schema):
    """Art. 30(2): what the operator processes on behalf of this organization."""

    record = fields.String(required=True)
    processor = fields.Nested(Operator, required=True)
    controllers = fields.List(fields.Nested(Contact), required=True)
    activities = fields.List(fields.Nested(RecordedActivity), required=True)
    security_measures = fields.List(fields.Nested(Measure), required=True)


class Records(Schema):
    """Both records of Art. 30 GDPR."""

    controller = fields.Nested(ControllerRecord, required=True)
    processor = fields.Nested(ProcessorRecord, required=True)
