"""GET /deletion: one self-contained page whose policy allows its own script and style and nothing else."""

import base64
import hashlib
import re

from tests.conftest import Api


def test_it_is_self_contained(api: Api) -> None:
    answer = api.get("/deletion")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "no-store" in answer.headers["Cache-Control"]
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
        assert policy[directive] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)
