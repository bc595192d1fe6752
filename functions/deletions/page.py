"""The page behind the link of the last mail: asks for the state with the receipt in the fragment and shows it."""

import base64
import hashlib

from werkzeug.wrappers import Response

STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto}"
SCRIPT = """
const given = new URLSearchParams(location.hash.slice(1));
const id = given.get("id"), receipt = given.get("receipt");
const state = document.getElementById("state"), proof = document.getElementById("proof");
async function show() {
  if (!id || !receipt) { state.textContent = "This address is not complete: open the link of the mail again."; return; }
  const address = "/v1/deletions/" + encodeURIComponent(id);
  const query = "?receipt=" + encodeURIComponent(receipt);
  const answer = await fetch(address + "/status" + query, {credentials: "omit"});
  if (!answer.ok) { state.textContent = "There is no erasure of this number and receipt."; return; }
  const found = await answer.json();
  state.textContent = "Erasure " + found.id + ": " + found.status + ", received " + found.received_at + ".";
  if (found.certificate) { proof.textContent = JSON.stringify(found.certificate, null, 2); }
}
show().catch(() => { state.textContent = "The service cannot be reached; try again later."; });
"""
HTML = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Your erasure</title>
<style>{STYLE}</style>
<h1>Your erasure</h1>
<p id="state" role="status">Asking …</p>
<pre id="proof"></pre>
<p>The certificate is signed. Its public key stands at
<a href="/v1/deletions/certificate-keys">/v1/deletions/certificate-keys</a>.</p>
<script>{SCRIPT}</script>
</html>
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_source(SCRIPT)}; style-src {_source(STYLE)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def response() -> Response:
    """The page."""
    return Response(HTML, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})
