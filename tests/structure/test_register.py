"""The personal-data register against the live catalog: no column without a class, no person without an erasure rule."""

import pytest

from common.register import SOURCE, RegisterError, parse, register
from functions.audit.incident_schemas import DATA_CLASSES
from functions.exports.copying import TIME

OURS = "('app', 'identity', 'platform')"
COLUMNS = f"""
    SELECT n.nspname || '.' || c.relname AS table_name, a.attname::text, a.attstattarget, a.attnotnull,
           format_type(a.atttypid, NULL)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
        AND NOT a.attisdropped
"""
EMPTIED = {("platform.deletions", "phones_to_find")}  # a list that the request's own functions empty
PEOPLE = ("account_id", "user_id", "actor_id", "assignee_id", "subject_id", "subject_account_id")


def columns(admin):
    """(table, column) → (statistics target, not null, type)."""
    return {(table, column): tuple(facts) for table, column, *facts in admin.run(COLUMNS)}


def classified(known=None):
    return {
        (table.name, column.name): (table, column)
        for table in (known or register()).tables.values()
        for column in table.columns.values()
    }


def columns_that_differ(admin, known=None):
    """Columns of one side alone, by name."""
    live, ours = set(columns(admin)), set(classified(known))
    return sorted(
        [f"{'.'.join(key)} is not classified in common/register.yaml" for key in live - ours]
        + [f"{'.'.join(key)} is not in the database" for key in ours - live]
    )


def test_every_column_is_classified_and_every_classified_column_exists(admin):
    assert columns_that_differ(admin) == []


def test_an_unclassified_column_is_named(admin):
    text = SOURCE.read_text()
    assert text.count("      slug: restricted export\n") == 1
    wrong = parse(text.replace("      slug: restricted export\n", "      slag: restricted export\n"))

    assert columns_that_differ(admin, wrong) == [
        "app.organizations.slag is not in the database",
        "app.organizations.slug is not classified in common/register.yaml",
    ]


def test_the_planner_knows_nothing_of_sensitive_columns(admin):
    targets = {key: facts[0] for key, facts in columns(admin).items()}

    assert [key for key, (_, column) in classified().items() if column.sensitive and targets[key] != 0] == []


def test_columns_that_name_people_are_subjects(admin):
    named = {key for key in columns(admin) if key[1] in PEOPLE or key[1].endswith("_by")}
    subjects = {(table.name, subject.column) for table in register().tables.values() for subject in table.subjects}

    assert len(named) > 8
    assert sorted(named - subjects) == []


def test_an_erasure_can_be_done_to_its_column(admin):
    live = columns(admin)

    for key, (_, column) in classified().items():
        _, not_null, kind = live[key]
        assert not (column.erase == "null" and not_null and key not in EMPTIED), key
        assert not (column.erase == "pseudonym" and kind != "uuid"), key


def test_retention_periods_are_intervals_after_a_time(admin):
    live = columns(admin)

    for table in register().tables.values():
        if table.retention.period:
            assert admin.run("SELECT CAST(:period AS interval) > '0'", period=table.retention.period) == [[True]]
            assert live[table.name, table.retention.after][2] == "timestamp with time zone"


def test_what_is_partitioned_and_what_the_register_says_of_it_agree(admin):
    """A partitioned table without its entry would keep its rows for ever, and soon take none."""
    found = admin.run(
        f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN {OURS} AND c.relkind = 'p' AND NOT c.relispartition
        """
    )
    assert {name for (name,) in found} == {
        table.name for table in register().tables.values() if table.retention.partitions
    }


def test_the_job_service_reads_what_a_copy_holds_and_no_more(admin):
    for table in register().tables.values():
        granted = admin.run(
            """
            SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = CAST(:name AS regclass) AND a.attnum > 0
                AND has_column_privilege('exports_jobs_fn', a.attrelid, a.attnum, 'SELECT')
            """,
            name=table.name,
        )
        expected = {*table.exported, *table.carried} if table.of_tenant else set()
        if table.name != "platform.roles":
            assert {name for (name,) in granted} == expected, table.name


def test_times_of_a_copy_have_the_names_of_times(admin):
    live = columns(admin)

    for table in register().carried():
        for name in table.exported + table.carried:
            is_time = live[table.name, name][2] == "timestamp with time zone"
            assert is_time == bool(TIME.search(name)), (table.name, name)


def test_each_of_the_platforms_exported_tables_has_its_function(admin):
    for table in register().exported(of_tenant=False):
        assert admin.run(
            "SELECT has_function_privilege('exports_jobs_fn', CAST(:name AS regprocedure), 'EXECUTE')",
            name=f"platform.export_{table.relation}()",
        ) == [[True]]


def test_file_names_in_a_package_are_unique():
    names = [table.relation for table in register().tables.values() if table.exported]

    assert len(names) == len(set(names))


ENTRY = """
controllers: {}
people: {users: people}
data: {content: texts}
activities: {work: {title: t, controller: tenant, purpose: p}, accounts: {title: t, controller: platform, purpose: p}}
recipients: {hosting: {title: somebody, kind: processor, place: here, given: all}}
places: {}
measures: []
rights: []
automated_decisions: none
tables:
  app.boxes:
    {controller: tenant, activity: work, people: [], data: [], subjects: [], source: provided, purpose: p,
    legal_basis: b, recipients: [], retention: {until: it ends, ground: g}, columns: {box_id: internal}}
  app.things:
    controller: tenant
    activity: work
    people: [users]
    data: [content]
    subjects: [{column: made_by, role: author, erase: pseudonym}]
    source: provided
    purpose: p
    legal_basis: b
    recipients: [hosting]
    retention: {until: u, ground: g}
    references:
      things_in_boxes: with_parent (in_box) -> app.boxes (box_id)
    columns:
      id: internal export
      in_box: internal
      made_by: internal pseudonym
      text: restricted export keep
"""


def test_the_short_forms():
    table = parse(ENTRY).tables["app.things"]

    assert [(c.classification, c.export, c.erase) for c in table.columns.values()] == [
        ("internal", True, "delete_row"),
        ("internal", False, "delete_row"),
        ("internal", False, "pseudonym"),
        ("restricted", True, "keep"),
    ]
    assert table.exported == ("id", "text")
    assert table.subjects[0].policy_erase == "pseudonym"


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("restricted export keep", "secret export", "app.things.text"),
        ("restricted export keep", "restricted export burn", "burn"),
        ("restricted export keep", "restricted export keep null", "too many words"),
        ("column: made_by", "column: unmade_by", "unmade_by"),
        ("app.things:\n    controller: tenant", "app.things:\n    controller: nobody", "nobody"),
        (
            "app.things:\n    controller: tenant",
            "app.things:\n    controller: platform",
            "activity work is of the tenant",
        ),
        ("    activity: work\n", "    activity: play\n", "play"),
        ("    activity: work\n", "", "app.things: 'activity' is missing"),
        ("people: [users]", "people: [martians]", "martians"),
        ("people: [users]", "people: []", "app.things: who is in `people`"),
        ("data: [content]", "data: [thoughts]", "thoughts"),
        ("with_parent (in_box)", "with_child (in_box)", "with_child"),
        ("with_parent (in_box)", "with_parent (in_bag)", "things_in_boxes: 'in_bag' is not a column"),
        ("with_parent (in_box)", "with_parent (in_box, id)", "things_in_boxes: as many columns"),
        ("with_parent (in_box)", "with_parent in_box", "things_in_boxes: .* is not `rule"),
        ("app.boxes (box_id)", "app.boxes (id)", "things_in_boxes points to nothing in app.boxes"),
        ("app.boxes (box_id)", "app.bags (box_id)", "things_in_boxes points to nothing in app.bags"),
        ("recipients: [hosting]", "recipients: [everyone]", "everyone"),
        ("until: u, ", "", "retention"),
        ("until: u, ", "until: u, partitions: month, ", "app.things: partitions need a period"),
        ("until: u, ", "until: u, partitions: week, ", "week"),
        ("text: restricted", "te;xt: restricted", "identifier"),
        ("app.things:", "app.thi ngs:", "identifier"),
    ],
)
def test_a_register_that_contradicts_itself_is_refused(right, wrong, named):
    assert ENTRY.count(right) == 1
    with pytest.raises(RegisterError, match=named):
        parse(ENTRY.replace(right, wrong))


def test_an_incident_names_the_registers_classes_of_data():
    assert tuple(register().data) == DATA_CLASSES
