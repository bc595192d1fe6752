"""The data map and the records of Art. 30 GDPR, as common/privacy.py computes them from the register."""

from marshmallow import fields, validate

from common.register_parts import CONTROLLERS
from common.register_tables import CLASSES, ERASURES, REFERENCES, SOURCES
from common.schemas import Schema


class Operator(Schema):
    """Who runs this deployment, and whom to write to."""

    name = fields.String(required=True, metadata={"example": "Weber Systems GmbH"})
    contact = fields.String(required=True, metadata={"example": "Lindenallee 12, 10115 Berlin, Germany"})
    representative = fields.String(
        required=True, metadata={"example": "none stated; needed outside the European Union only (Art. 27)"}
    )
    data_protection_officer = fields.String(required=True, metadata={"example": "privacy@example.com"})


class Activity(Schema):
    """Something that data are processed for; `controller` decides about it (Art. 4(7))."""

    name = fields.String(required=True, metadata={"example": "content"})
    title = fields.String(required=True, metadata={"example": "Projects and tasks"})
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    purpose = fields.String(required=True, metadata={"example": "Plan and follow work together"})


class Recipient(Schema):
    """Who gets data, where, and by which safeguard when that is a third country."""

    name = fields.String(required=True, metadata={"example": "hosting"})
    text = fields.String(required=True, metadata={"example": "Google Cloud, processor (Art. 28)"})
    kind = fields.String(required=True, metadata={"example": "processor"})
    place = fields.String(required=True, metadata={"example": "European Union"})
    given = fields.String(required=True, metadata={"example": "Everything that the service stores"})
    transfer = fields.String(required=True, allow_none=True, metadata={"example": None})


class MappedSubject(Schema):
    """Whom a row is about, by which column, and what an erasure does."""

    column = fields.String(required=True, metadata={"example": "assignee_id"})
    role = fields.String(required=True, metadata={"example": "assignee"})
    export = fields.Boolean(required=True)
    erase = fields.String(required=True, validate=validate.OneOf(ERASURES))
    policy_erase = fields.String(required=True, validate=validate.OneOf(ERASURES))
    erasure = fields.String(required=True, metadata={"example": "the row stays, assignee_id then points to nobody"})


class MappedColumn(Schema):
    """A column: its class, whether a person's copy holds it, and what an erasure does with it."""

    name = fields.String(required=True, metadata={"example": "title"})
    class_ = fields.String(required=True, data_key="class", validate=validate.OneOf(CLASSES))
    export = fields.Boolean(required=True)
    erase = fields.String(required=True, validate=validate.OneOf(ERASURES))


class MappedReference(Schema):
    """A foreign key, and what an erasure does with it."""

    name = fields.String(required=True, metadata={"example": "tasks_of_a_project"})
    columns = fields.List(fields.String(), required=True, metadata={"example": ["project_id"]})
    parent = fields.String(required=True, metadata={"example": "app.projects"})
    rule = fields.String(required=True, validate=validate.OneOf(REFERENCES))


class MappedTable(Schema):
    """A table of the database."""

    table = fields.String(required=True, metadata={"example": "app.tasks"})
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    activity = fields.String(required=True, metadata={"example": "content"})
    purpose = fields.String(required=True, metadata={"example": "Plan and follow work together"})
    legal_basis = fields.String(required=True, metadata={"example": "Art. 6(1)(b) GDPR, contract"})
    source = fields.String(required=True, validate=validate.OneOf(SOURCES))
    collected_from = fields.String(required=True, metadata={"example": "the person"})
    people = fields.List(fields.String(), required=True, metadata={"example": ["users"]})
    data = fields.List(fields.String(), required=True, metadata={"example": ["content"]})
    subjects = fields.List(fields.Nested(MappedSubject), required=True)
    recipients = fields.List(fields.String(), required=True, metadata={"example": ["hosting"]})
    storage_period = fields.String(required=True, metadata={"example": "until the organization is erased"})
    storage_ground = fields.String(required=True, metadata={"example": "the organization decides"})
    portable = fields.Boolean(required=True, allow_none=True)
    references = fields.List(fields.Nested(MappedReference), required=True)
    columns = fields.List(fields.Nested(MappedColumn), required=True)


class MappedPlace(Schema):
    """A place beside the tables: files, logs, backups."""

    place = fields.String(required=True, metadata={"example": "Logs"})
    controller = fields.String(required=True, validate=validate.OneOf(CONTROLLERS))
    activity = fields.String(required=True, metadata={"example": "operation"})
    purpose = fields.String(required=True, metadata={"example": "Find faults and attacks"})
    legal_basis = fields.String(required=True, metadata={"example": "Art. 6(1)(f) GDPR"})
    people = fields.List(fields.String(), required=True, metadata={"example": ["users"]})
    data = fields.List(fields.String(), required=True, metadata={"example": ["activity"]})
    recipients = fields.List(fields.String(), required=True, metadata={"example": ["hosting"]})
    storage_period = fields.String(required=True, metadata={"example": "30 days"})
    storage_ground = fields.String(required=True, metadata={"example": "operation"})
    erasure = fields.String(required=True, metadata={"example": "entries expire after 30 days"})


class DataMap(Schema):
    """Where personal data are, computed from the register that drives export, erasure and retention."""

    operator = fields.Nested(Operator, required=True)
    controllers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"example": {"platform": "The operator of this service"}},
    )
    people = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"example": {"users": "People with an account"}},
    )
    data = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"example": {"content": "What people write"}},
    )
    activities = fields.List(fields.Nested(Activity), required=True)
    recipients = fields.List(fields.Nested(Recipient), required=True)
    tables = fields.List(fields.Nested(MappedTable), required=True)
    places = fields.List(fields.Nested(MappedPlace), required=True)
    transfers_to_third_countries = fields.String(
        required=True, metadata={"example": "none but those named with a recipient"}
    )


class TimeLimit(Schema):
    """How long data of a place are kept, and why."""

    of = fields.String(required=True, metadata={"example": "app.tasks"})
    period = fields.String(required=True, metadata={"example": "until the organization is erased"})
    ground = fields.String(required=True, metadata={"example": "the organization decides"})


class RecordedActivity(Schema):
    """An activity of a record: whose data, which, for whom, how long."""

    activity = fields.String(required=True, metadata={"example": "content"})
    title = fields.String(required=True, metadata={"example": "Projects and tasks"})
    purposes = fields.List(fields.String(), required=True, metadata={"example": ["Plan and follow work together"]})
    legal_bases = fields.List(fields.String(), required=True, metadata={"example": ["Art. 6(1)(b) GDPR, contract"]})
    data_subjects = fields.List(fields.String(), required=True, metadata={"example": ["Members of an organization"]})
    data_categories = fields.List(fields.String(), required=True, metadata={"example": ["What people write"]})
    recipients = fields.List(
        fields.String(), required=True, metadata={"example": ["Google Cloud, processor (Art. 28)"]}
    )
    transfers = fields.List(fields.String(), required=True, metadata={"example": ["none"]})
    time_limits = fields.List(fields.Nested(TimeLimit), required=True)


class Measure(Schema):
    """A technical or organizational measure (Art. 32)."""

    title = fields.String(required=True, metadata={"example": "Tenants are apart"})
    text = fields.String(required=True, metadata={"example": "Row-level security by a seal that nobody can forge"})


class Contact(Schema):
    """An organization on whose behalf data are processed."""

    name = fields.String(required=True, metadata={"example": "Weber Systems"})
    contact = fields.String(required=True, metadata={"example": ""})


class ControllerRecord(Schema):
    """Art. 30(1): what the operator processes as controller."""

    record = fields.String(required=True, metadata={"example": "Art. 30(1) GDPR"})
    controller = fields.Nested(Operator, required=True)
    activities = fields.List(fields.Nested(RecordedActivity), required=True)
    security_measures = fields.List(fields.Nested(Measure), required=True)


class ProcessorRecord(Schema):
    """Art. 30(2): what the operator processes on behalf of this organization."""

    record = fields.String(required=True, metadata={"example": "Art. 30(2) GDPR"})
    processor = fields.Nested(Operator, required=True)
    controllers = fields.List(fields.Nested(Contact), required=True)
    activities = fields.List(fields.Nested(RecordedActivity), required=True)
    security_measures = fields.List(fields.Nested(Measure), required=True)


class Records(Schema):
    """Both records of Art. 30 GDPR."""

    controller = fields.Nested(ControllerRecord, required=True)
    processor = fields.Nested(ProcessorRecord, required=True)
