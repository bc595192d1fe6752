"""Write docs/privacy, and docs/retention.md's tables, from the register: `python -m local.privacy_docs`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from common import privacy
from common.register import Table, register
from local import retention_docs
from local.privacy_map import picture

FOLDER = Path(__file__).parent.parent / "docs" / "privacy"
COMMAND = "python -m local.privacy_docs"
NOBODY = privacy.Operator()
SCHEMAS = {
    "identity": "Accounts",
    "app": "Organizations",
    "platform": "The platform itself",
}
PORTABLE = {True: "yes", False: "no", None: "as the organization's basis is"}


def documents() -> dict[str, str]:
    """File name → text, as the register gives them."""
    made = {
        "data-map.md": data_map(),
        "records-of-processing.md": records(),
        "article-15.md": article_15(),
    }
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def main() -> None:
    """Replace the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    retention_docs.update()


def head(title: str, *paragraphs: str) -> list[str]:
    """The beginning of a page."""
    return [f"# {title}", "", f"<!-- Generated from common/register.yaml by `{COMMAND}`: change it there. -->", ""] + [
        line for text in paragraphs for line in (text, "")
    ]


def rows(titles: str, lines: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; `titles` with bars between."""
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    bar = "|" + "---|" * (titles.count("|") + 1)
    return [f"| {titles} |", bar, *(f"| {' | '.join(line)} |" for line in cells), ""]


def words(names: Iterable[str]) -> str:
    """Names with commas between."""
    return ", ".join(names) or "nobody"


def data_map() -> list[str]:
    """Where personal data are."""
    known = register()
    return [
        *head(
            "The data map",
            "Where personal data are, whose, why, for how long, and what export and erasure do with them. "
            "The same as JSON: `GET /v1/privacy/data-map`. A test compares it with the live database: a column, a "
            "table or a foreign key that is missing here fails the build by its name.",
            "Whose data are used for what, and who is given some of them. Everything is stored at Google Cloud.",
        ),
        *picture(known),
        "## Categories",
        "",
        *rows("people (data subjects) | who they are", ((f"`{name}`", text) for name, text in known.people.items())),
        *rows("data | what they are", ((f"`{name}`", text) for name, text in known.data.items())),
        "## Activities",
        "",
        *rows(
            "activity | controller | purpose",
            ((each.title, each.controller, each.purpose) for each in known.activities.values()),
        ),
        f"`platform`: {known.controllers['platform']} `tenant`: {known.controllers['tenant']}",
        "",
        *(line for schema, title in SCHEMAS.items() for line in _overview(schema, title)),
        "## Beside the tables",
        "",
        *rows(
            "place | people | data | kept | erasure",
            (
                (each.title, words(each.people), words(each.data), f"{each.period}: {each.ground}", each.erasure)
                for each in known.places.values()
            ),
        ),
        "## Every column",
        "",
        "Classes: public, internal, restricted (personal data, customers' content), confidential (secrets, addresses).",
        "",
        *(line for table in known.tables.values() for line in _columns(table)),
    ]


def _overview(schema: str, title: str) -> Iterator[str]:
    """The tables of a schema, one a line."""
    yield from (f"## {title}: `{schema}`", "")
    yield from rows(
        "table | for | about | source | kept | erasure",
        (
            (
                f"[{table.relation}](#{_anchor(table)})",
                table.activity.title,
                words(f"{subject.role} (`{subject.column}`)" for subject in table.subjects)
                if table.subjects
                else words(table.people),
                table.source,
                f"{table.retention.text}: {table.retention.ground}",
                "; ".join(dict.fromkeys(privacy.erasure(subject, table) for subject in table.subjects))
                or "with its parent",
            )
            for table in register().tables.values()
            if table.schema == schema and table.people
        ),
    )
    without = words(
        f"`{table.relation}`" for table in register().tables.values() if table.schema == schema and not table.people
    )
    if without != words(()):
        yield from (f"Without personal data: {without}.", "")


def _erasure(table: Table) -> str:
    """What an erasure does with the table."""
    if table.subjects:
        return "; ".join(dict.fromkeys(privacy.erasure(subject, table) for subject in table.subjects))
    if table.of_tenant:
        return "outlives its organization" if table.whole == "keep" else "with its organization"
    return "with the row that it belongs to"


def _anchor(table: Table) -> str:
    """GitHub's anchor of the table's heading."""
    return table.name.replace(".", "")


def _columns(table: Table) -> Iterator[str]:
    yield from (f"### {table.name}", "", f"{table.purpose}.", "")
    yield from rows(
        "column | class | in a person's copy | erasure",
        (
            (f"`{each.name}`", each.classification, "yes" if each.name in table.exported else "", each.erase)
            for each in table.columns.values()
        ),
    )
    if table.references:
        yield from rows(
            "foreign key | to | rule",
            ((f"`{each.name}`", f"`{each.parent}`", each.rule) for each in table.references),
        )


def records() -> list[str]:
    """Both records of Art. 30."""
    controller = privacy.records_of_processing("controller", NOBODY)
    processor = privacy.records_of_processing("processor", NOBODY)
    return [
        *head(
            "Records of processing activities (Art. 30 GDPR)",
            "What the operator keeps ready for a supervisory authority, computed from the register. The same as JSON, "
            "with the operator's name and, in the second part, with the organization that asks: "
            "`GET /v1/privacy/records-of-processing`.",
            "Who the operator is, each deployment states by [settings](../settings.md): `OPERATOR_NAME`, "
            "`OPERATOR_CONTACT`, `OPERATOR_REPRESENTATIVE`, `DPO_CONTACT`, `SUPERVISORY_AUTHORITY`, `MAIL_PROVIDER`.",
            "The periods are the software's. Where national law asks for longer ones (invoices), they are changed in "
            "`common/register.yaml`, and retention, erasure and this page follow.",
        ),
        "## As controller: Art. 30(1)",
        "",
        *_operator(controller["controller"]),
        *(line for activity in controller["activities"] for line in _activity(activity)),
        "## As processor: Art. 30(2)",
        "",
        "On behalf of: every organization of the service, each for its own content.",
        "",
        *_operator(processor["processor"]),
        *(line for activity in processor["activities"] for line in _activity(activity)),
        "## Technical and organizational measures: Art. 30(1)(g) and (2)(d), Art. 32",
        "",
        *rows(
            "measure | what it is | shown by",
            ((each.title, each.text, f"[{each.proof}](../../{each.proof})") for each in register().measures),
        ),
    ]


def _operator(named: dict[str, str]) -> list[str]:
    return rows("operator | stated", ((key.replace("_", " "), text) for key, text in named.items()))


def _activity(activity: dict[str, object]) -> Iterator[str]:
    """An activity of a record."""
    titles = {
        "purposes": "purposes",
        "legal_bases": "legal bases",
        "data_subjects": "data subjects",
        "data_categories": "personal data",
        "recipients": "recipients",
        "transfers": "transfers to third countries",
    }
    yield from (f"### {activity['title']}", "")
    yield from rows("field | content", ((title, _listed(activity[key])) for key, title in titles.items()))
    limits = activity["time_limits"]
    if isinstance(limits, list):
        yield from rows(
            "time limits of | period | ground", ((each["of"], each["period"], each["ground"]) for each in limits)
        )


def _listed(values: object) -> str:
    return "<br>".join(str(value) for value in values) if isinstance(values, list) and values else "none"


def article_15() -> list[str]:
    """What a person is told."""
    told = privacy.article_15(NOBODY)
    known = register()
    mine = [table for table in known.tables.values() if table.subjects and table.controller == "platform"]
    theirs = [table for table in known.tables.values() if table.subjects and table.controller == "tenant"]
    return [
        *head(
            "What a person is told (Art. 15(1) and (2) GDPR)",
            "Every copy of a person's data brings this along as `processing.json`, with the operator's name.",
        ),
        "## (a), (b), (d), (g): purposes, data, periods, sources",
        "",
        f"{known.controllers['platform']}",
        "",
        *_told(mine),
        f"{known.controllers['tenant']}",
        "",
        *_told(theirs),
        *rows("personal data | what they are", ((f"`{name}`", text) for name, text in known.data.items())),
        "## (c): recipients, and Art. 15(2): transfers",
        "",
        *rows(
            "recipient | is given | outside the European Union",
            ((party.text, party.given, party.transfer or "no") for party in known.parties.values()),
        ),
        "## Beside the tables",
        "",
        *rows(
            "place | purpose | kept | erasure",
            ((each.title, each.purpose, each.period, each.erasure) for each in known.places.values()),
        ),
        "## (e), (f): your rights",
        "",
        *(f"- {right}" for right in told["rights"]),
        "",
        f"The supervisory authority: {told['supervisory_authority']}.",
        "",
        "## (h): automated decisions",
        "",
        told["automated_decisions"],
        "",
        "## Which data Art. 20 covers",
        "",
        "Provided and observed data that are processed by contract or consent. Derived data may be in the copy, but "
        "are not portable in the sense of the law.",
        "",
        *rows(
            "table | source | portable | why",
            (
                (f"`{table.relation}`", table.source, PORTABLE[table.portable], privacy.portability(table))
                for table in (*mine, *theirs)
            ),
        ),
    ]


def _told(tables: list[Table]) -> list[str]:
    return rows(
        "table | purpose | legal basis | you are | personal data | from | kept",
        (
            (
                f"`{table.relation}`",
                table.purpose,
                table.legal_basis,
                words(dict.fromkeys(subject.role for subject in table.subjects)),
                words(table.data),
                privacy.collected_from(table),
                f"{table.retention.text}: {table.retention.ground}",
            )
            for table in tables
        ),
    )


if __name__ == "__main__":
    main()
