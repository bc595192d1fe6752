"""The register's references and subjects against the live catalog: each check names what is wrong, and is seen to."""

import re

import pytest

from common.register import SOURCE, RegisterError, parse, register
from common.register_rules import ordered

OURS = "('app', 'identity', 'platform')"
FOREIGN_KEYS = f"""
    SELECT k.conname::text, sn.nspname || '.' || s.relname, tn.nspname || '.' || t.relname, k.confdeltype::text,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY c(number, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.number ORDER BY c.place),
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY c(number, place)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.number ORDER BY c.place)
    FROM pg_constraint k
    JOIN pg_class s ON s.oid = k.conrelid JOIN pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
    WHERE k.contype = 'f' AND sn.nspname IN {OURS} AND NOT s.relispartition
"""
COLUMNS = f"""
    SELECT n.nspname || '.' || c.relname, a.attname::text, format_type(a.atttypid, NULL), a.attnotnull
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
        AND NOT a.attisdropped
"""
KINDS = {
    "account": ("uuid",),
    "key": ("uuid",),
    "row": ("uuid",),
    "email": ("text",),
    "text": ("text",),
    "mention": ("text", "jsonb", "bytea"),
}
PERSON = ("identity.accounts", "app.members")  # who points there points to a person
TEXT = SOURCE.read_text()
TASKS = "      tasks_of_a_project: keep_parent (tenant_id, project_id) -> app.projects (tenant_id, id)\n"
INVITER = "invitations_inviter: null (tenant_id, invited_by) -> app.members (tenant_id, user_id)"


def tables_that_differ(admin, known):
    """Tables of one side alone, by name."""
    live = {row[0] for row in admin.run(COLUMNS)}
    return sorted(
        [f"{name}: not in common/register.yaml" for name in live - set(known.tables)]
        + [f"{name}: not in the database" for name in set(known.tables) - live]
    )


def references_that_differ(admin, known):
    """Foreign keys without the register's rule, rules without a foreign key, and those that point elsewhere."""
    live = {
        (source, name): (tuple(own), to, tuple(theirs)) for name, source, to, _, own, theirs in admin.run(FOREIGN_KEYS)
    }
    ruled = {
        (table.name, each.name): (each.columns, each.parent, each.parent_columns)
        for table in known.tables.values()
        for each in table.references
    }
    return sorted(
        [f"{table}: foreign key {name} has no rule" for table, name in set(live) - set(ruled)]
        + [f"{table}: rule {name} has no foreign key" for table, name in set(ruled) - set(live)]
        + [f"{key[0]}: {key[1]} is {live[key]}" for key in set(live) & set(ruled) if live[key] != ruled[key]]
    )


def rules_that_cannot_be(admin, known):
    """Rule `null` on a column that cannot be null, or with nothing to null; another rule where the database nulls."""
    not_null = {(table, column) for table, column, _, required in admin.run(COLUMNS) if required}
    nulls = {(source, name) for name, source, _, on_delete, *_ in admin.run(FOREIGN_KEYS) if on_delete == "n"}
    wrong = []
    for table in known.tables.values():
        for each in table.references:
            stuck = {(table.name, column) for column in each.nulled} & not_null
            if each.rule == "null" and (stuck or not each.nulled):
                wrong.append(f"{table.name}: {each.name} cannot be nulled")
            if each.rule != "null" and (table.name, each.name) in nulls:
                wrong.append(f"{table.name}: {each.name} is nulled by the database")
    return wrong


def subjects_that_cannot_match(admin, known):
    """Subject columns of another type than what names a person."""
    kinds = {(table, column): kind for table, column, kind, _ in admin.run(COLUMNS)}
    return [
        f"{table.name}.{subject.column} is {kinds[table.name, subject.column]}, not {' or '.join(KINDS[subject.match])}"
        for table in known.tables.values()
        for subject in table.subjects
        if kinds[table.name, subject.column] not in KINDS[subject.match]
    ]


def people_without_a_subject(known):
    """Columns that point to a person, but are no subject of their table."""
    return [
        f"{table.name}.{column} points to {each.parent}"
        for table in known.tables.values()
        for each in table.references
        if each.parent in PERSON
        for column in each.columns
        if column != "tenant_id" and column not in {subject.column for subject in table.subjects}
    ]


def changed(right, wrong):
    """The register with one thing wrong."""
    assert TEXT.count(right) == 1
    return parse(TEXT.replace(right, wrong))


def test_every_table_is_in_the_register(admin):
    assert tables_that_differ(admin, register()) == []


def test_every_foreign_key_has_a_rule(admin):
    assert len(admin.run(FOREIGN_KEYS)) > 30
    assert references_that_differ(admin, register()) == []


def test_every_rule_can_be_followed(admin):
    assert rules_that_cannot_be(admin, register()) == []


def test_every_subject_names_a_person_in_a_type_that_does(admin):
    assert subjects_that_cannot_match(admin, register()) == []


def test_who_points_to_a_person_is_about_her():
    assert people_without_a_subject(register()) == []


def test_an_unknown_table_is_named(admin):
    without = parse(re.sub(r"\n  app\.team_members:\n.*?(?=\n  [a-z]+\.)", "", TEXT, count=1, flags=re.DOTALL))

    assert tables_that_differ(admin, without) == ["app.team_members: not in common/register.yaml"]


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        (TASKS, "", "app.tasks: foreign key tasks_of_a_project has no rule"),
        (TASKS, TASKS + TASKS.replace("of_a_project", "of_a_cat"), "app.tasks: rule tasks_of_a_cat has no foreign key"),
        (
            TASKS,
            TASKS.replace("app.projects", "app.teams"),
            "app.tasks: tasks_of_a_project is (('tenant_id', 'project_id'), 'app.projects', ('tenant_id', 'id'))",
        ),
    ],
    ids=["no rule", "no foreign key", "another table"],
)
def test_a_reference_that_differs_is_named(admin, right, wrong, named):
    assert references_that_differ(admin, changed(right, wrong)) == [named]


def test_a_rule_that_cannot_be_followed_is_named(admin):
    nulls = changed(TASKS, TASKS.replace("keep_parent", "null"))
    keeps = changed(INVITER, INVITER.replace("null", "with_parent"))

    assert rules_that_cannot_be(admin, nulls) == ["app.tasks: tasks_of_a_project cannot be nulled"]
    assert rules_that_cannot_be(admin, keeps) == ["app.invitations: invitations_inviter is nulled by the database"]


def test_a_subject_of_the_wrong_type_is_named(admin):
    right = "{column: user_id, role: member of a team,"
    wrong = changed(right, right.replace("user_id", "created_at"))

    assert subjects_that_cannot_match(admin, wrong) == [
        "app.team_members.created_at is timestamp with time zone, not uuid"
    ]
    assert people_without_a_subject(wrong) == ["app.team_members.user_id points to app.members"]


def test_children_go_before_their_parents():
    order = [table.name for table in ordered(register().tables)]

    assert sorted(order) == sorted(register().tables)
    for place, name in enumerate(order):
        parents = {each.parent for each in register().tables[name].references} - {name}
        assert parents & set(order[:place]) == set(), name


def test_a_circle_is_refused():
    members = "members_tenant_id_fkey: with_parent (tenant_id) -> app.organizations (tenant_id)"
    circle = changed(members, "members_tenant_id_fkey: with_parent (tenant_id) -> app.team_members (tenant_id)")

    with pytest.raises(RegisterError, match=r"no order of erasure among .*app\.members.*app\.team_members"):
        ordered(circle.tables)


def test_a_table_that_points_to_itself_has_its_place():
    itself = changed(TASKS, TASKS + "      tasks_of_a_task: null (tenant_id, due_at) -> app.tasks (tenant_id, id)\n")

    assert [table.name for table in ordered(itself.tables)] == [table.name for table in ordered(register().tables)]
