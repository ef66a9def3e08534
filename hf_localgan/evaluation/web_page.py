"""A report as one web page that can be sent around: pictures inside, nothing fetched, no script."""

import base64
import mimetypes
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from hf_localgan.files import replacing

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .7rem; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; background: #fff; }
"""


def write_page(path: Path, markdown: str) -> Path:
    """Writes Markdown as one HTML file, whole or not at all.

    Pictures that lie beside the file become part of it. Addresses of other hosts stay links and are not loaded; HTML in
    the text is shown as text.

    Args:
        path: of the page.
        markdown: its text, with tables; the first heading becomes the title.

    Returns:
        `path`.

    Raises:
        FileNotFoundError: for a picture that is not there.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                _embed(child, path.parent)
    body = reader.renderer.render(tokens, reader.options, {})
    found = re.search(r"<h1>(.*?)</h1>", body, flags=re.DOTALL)
    title = re.sub(r"<[^>]*>", "", found.group(1)) if found else path.stem
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _embed(image: Token, folder: Path):
    source = str(image.attrGet("src"))
    if re.match(r"[a-z][a-z0-9+.-]*:", source, flags=re.IGNORECASE):
        image.type, image.tag = "text", ""  # a page that is opened asks no other host for anything
        return
    kind = mimetypes.guess_type(source)[0] or "application/octet-stream"
    content = base64.b64encode((folder / source).read_bytes()).decode("ascii")
    image.attrSet("src", f"data:{kind};base64,{content}")
