"""The page behind the link of a mail: plain HTML, no script; the export's id stays in the fragment, with the reader."""

import base64
import hashlib

from werkzeug.wrappers import Response

STYLE = """body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}code{background:#eee;
padding:.1em .3em}"""
HTML = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Your data export</title>
<style>{STYLE}</style>
<main>
<h1>Your data export</h1>
<p>The link in the mail downloads your package for one hour. The package itself is kept for seven days; until then you
get a new link whenever you like:</p>
<ol>
<li>Log in.</li>
<li>Open <code>GET /v1/exports/&lt;id&gt;/download</code> with your access token. The id stands in the address of this
page, behind <code>#id=</code>; <code>GET /v1/exports</code> lists all your exports.</li>
<li>You are redirected to a fresh link that is good for one hour.</li>
</ol>
<p>When the package is no longer needed, <code>DELETE /v1/exports/&lt;id&gt;</code> removes it at once.</p>
</main>
</html>
"""
OURS = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{OURS}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def response() -> Response:
    """The page."""
    return Response(HTML, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})
