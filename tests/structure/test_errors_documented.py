"""docs/errors.md and the closed list of codes say the same."""

import re

from common.errors import CODES
from tests.structure.sources import read

ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_each_code_is_documented_with_its_status():
    documented = {code: int(status) for code, status, _, _ in ROW.findall(read("docs/errors.md"))}
    assert documented == {code: status for code, (status, _) in CODES.items()}


def test_each_code_is_documented_once_and_in_order_of_status():
    rows = ROW.findall(read("docs/errors.md"))
    assert len(rows) == len({code for code, *_ in rows})
    assert [status for _, status, _, _ in rows] == sorted(status for _, status, _, _ in rows)


def test_each_code_tells_what_to_do():
    assert [
        code for code, _, meaning, advice in ROW.findall(read("docs/errors.md")) if min(len(meaning), len(advice)) < 15
    ] == []
