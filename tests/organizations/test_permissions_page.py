"""docs/permissions.md says what the database does."""

import re

from functions.organizations.permissions import BUILT_IN, CODES
from tests.structure.sources import CHECKOUT

ROW = re.compile(r"^\| `([a-z.]+)` \| (.+?) \| (.*) \|$", re.MULTILINE)


def test_the_table(admin):
    roles = dict(admin.run("SELECT name, permissions FROM platform.roles"))
    page = (CHECKOUT / "docs" / "permissions.md").read_text()
    shown = {code: (text, [cell.strip() for cell in cells.split("|")]) for code, text, cells in ROW.findall(page)}

    assert "| permission | allows to | " + " | ".join(f"`{name}`" for name in BUILT_IN) + " |" in page
    assert list(shown) == list(CODES)
    for code, (text, cells) in shown.items():
        assert text.casefold() == CODES[code].casefold(), code
        assert cells == ["yes" if code in roles[name] else "" for name in BUILT_IN], code
