"""What every mail looks like: paragraphs, as text and as HTML."""

from html import escape

from common.mail import Mail
from common.settings import settings

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body style="font-family: sans-serif; line-height: 1.5; max-width: 36em; margin: 2em auto; padding: 0 1em">
{body}
</body></html>
"""


def letter(to: str, subject: str, *paragraphs: str) -> Mail:
    """A mail of plain paragraphs; one that is an address of ours is a link."""
    body = "\n".join(f"<p>{_html(paragraph)}</p>" for paragraph in paragraphs)
    return Mail(to, subject, "\n\n".join(paragraphs) + "\n", PAGE.format(title=escape(subject), body=body))


def _html(paragraph: str) -> str:
    text = escape(paragraph)
    return f'<a href="{text}">{text}</a>' if paragraph.startswith(f"{settings().public_url}/") else text
