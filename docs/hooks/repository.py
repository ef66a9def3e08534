"""Files of the repository beside `docs/` on the site: pages for those that are linked to, and their tables.

A link such as `../recipes/smalltalk/README.md` is right in the repository. On the site the file becomes a page of its
own, at `repository/recipes/smalltalk/README.md`, and the link leads there: Markdown as it is, other text files as a
block of code, pictures as they are. Files that such pages link to come along, and each has its edit link.

A name in code such as `hf_localgan.functional.alpha` leads to its place in the API pages, where it has one.

A line `<!-- tables: ../recipes/smalltalk/README.md#localgan -->` becomes the tables and pictures of that section, each
table with the paragraph, the item of a list or the heading above it. Without an anchor: those above the first heading
of level two. So a number stands in one file only.
"""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urljoin

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDER = "repository"  # of the site, for what is not in docs/
LANGUAGES = {
    ".yaml": "yaml", ".py": "python", ".toml": "toml", ".json": "json", ".ipynb": "json", ".jinja": "jinja",
    ".txt": "text",
}  # fmt: skip
PICTURES = {".png", ".svg", ".jpg", ".gif"}

CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
TABLES = re.compile(r"^<!-- tables: (\S+) -->$", re.MULTILINE)
NAME = re.compile(r"`(hf_localgan(?:\.\w+)+)`")
INTERVAL = re.compile(r"(?<=[\d%] )(\((?:[-+]?[\d.,]+ to [-+]?[\d.,]+|p [\d.]+)\))")  # or a p
VALUE = re.compile(r'(<td[^>]*>(?:[^<A-Za-z]|</?strong>)*<span class="interval)(">[^<]*</span>\s*</td>)')
CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
CELL_CODE = re.compile(r"<code>([^<]{16,})</code>")
LINE_CODE = re.compile(r"(?<!<pre>)(?<!</span>)<code>((?:[^<]|<wbr>)*)</code>")
OPTION = re.compile(r"(?<![\w&;-])--?[A-Za-z0-9]+")
TICKED = re.compile(r"(<code>(?:<span[^>]*>)?)`(\w+)`((?:</span>)?</code>)")
HEADING = re.compile(r"^(#{1,6}) +(.*)$", re.MULTILINE)
slug = slugify(case="lower")


def on_files(files, config):
    """Adds the files that pages link to, those that these link to, and what `extra.repository` of mkdocs.yml names."""
    named = [ROOT / name for name in config.extra.get("repository", ())]
    for path in named:
        if not path.is_file():
            raise PluginError(f"`extra.repository` of mkdocs.yml names {path.relative_to(ROOT)}, which is not there.")
    waiting, seen = [DOCS / file.src_uri for file in files.documentation_pages()] + named, set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if not path.is_relative_to(DOCS):
            files.append(site_file(path, site_uri(path), config))
        if path.suffix == ".md":
            text = CODE.sub("", path.read_text(encoding="utf-8"))
            linked = (target_file(target, path) for _, target, _ in LINK.findall(text))
            waiting += [file for file in linked if file is not None]
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts tables in their places and turns links to files of the repository into links of the site."""
    source = source_file(page.file.src_uri)
    if page.file.src_uri.startswith(f"{FOLDER}/") and config.repo_url:
        docs = f"{config.repo_url.rstrip('/')}/{config.edit_uri}"
        page.edit_url = urljoin(docs, f"../{source.relative_to(ROOT).as_posix()}")
    markdown = rewritten_links(markdown, source, page.file.src_uri)

    def tables(match: re.Match) -> str:
        path, _, anchor = match[1].partition("#")
        path = (source.parent / path).resolve()
        if not path.is_file():
            raise PluginError(f"{page.file.src_uri}: tables of {match[1]} are asked for, and there is no such file.")
        found = section_tables(path.read_text(encoding="utf-8"), anchor)
        if not found:
            raise PluginError(f"{page.file.src_uri}: no table in {match[1]}.")
        return rewritten_links(found, path, page.file.src_uri)

    markdown = markdown.replace("\n<details>\n", '\n<details markdown="1">\n')  # folded parts of cards are Markdown too
    return linked_names(TABLES.sub(tables, markdown))


def on_page_content(html, page, config, files):
    """Keeps intervals, p values and the dashes of options in one line, and takes the backticks of docstrings off types.

    Long names in tables may break. An interval that ends a cell of numbers may stand under its value.
    """
    html = VALUE.sub(r"\1 below\2", INTERVAL.sub(r'<span class="interval">\1</span>', html))
    html = CELL.sub(lambda cell: CELL_CODE.sub(lambda code: f"<code>{breakable(code[1])}</code>", cell[0]), html)
    html = LINE_CODE.sub(lambda code: OPTION.sub(r'<span class="option">\g<0></span>', code[0]), html)
    return TICKED.sub(r"\1\2\3", html)


# ---- places ----


def target_file(target: str, source: Path) -> Path | None:
    """The file of the repository, outside the site's own folder or in it, that a link of the file `source` means."""
    path = unquote(target.partition("#")[0])
    if not path or re.match(r"[a-z]+:|//|/", path):
        return None
    file = (source.parent / path).resolve()
    if file.is_dir():
        file /= "README.md"
    return file if file.is_file() and file.is_relative_to(ROOT) else None


def site_uri(path: Path) -> str:
    """Where the site has a file of the repository, as a path below `docs/`."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    uri = f"{FOLDER}/{path.relative_to(ROOT).as_posix()}"
    return uri if path.suffix == ".md" or path.suffix in PICTURES else f"{uri}.md"


def source_file(uri: str) -> Path:
    """The file of the repository behind a page."""
    if not uri.startswith(f"{FOLDER}/"):
        return DOCS / uri
    path = ROOT / uri.removeprefix(f"{FOLDER}/")
    return path if path.exists() else path.with_suffix("")


def site_file(path: Path, uri: str, config) -> File:
    """The page, or picture, of a file that does not lie in `docs/`."""
    if path.suffix == ".md" or path.suffix in PICTURES:
        return File.generated(config, uri, abs_src_path=str(path))
    name = path.relative_to(ROOT).as_posix()
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8")
    fence = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    page = f"---\nsearch:\n  exclude: true\n---\n# {path.name}\n\n`{name}`\n\n{fence}{language}\n{text}{fence}\n"
    return File.generated(config, uri, content=page)


# ---- text ----


def rewritten_links(text: str, source: Path, page_uri: str) -> str:
    """The text of `source` with its links as the page at `page_uri` needs them; those in code are left alone."""

    def link(match: re.Match) -> str:
        file = target_file(match[2], source)
        if file is None:
            return match[0]  # an address, an anchor, or a mistake, which mkdocs reports
        target = posixpath.relpath(site_uri(file), posixpath.dirname(page_uri) or ".")
        _, mark, anchor = match[2].partition("#")
        return f"{match[1]}{target}{mark}{anchor}{match[3]}"

    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(link, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(link, text[end:])])


def linked_names(text: str) -> str:
    """Code that is nothing but a name of the package becomes a reference, for mkdocs-autorefs to resolve."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        name = NAME.fullmatch(code[0])
        reference = name and f'<autoref identifier="{name[1]}" optional><code>{name[1]}</code></autoref>'
        parts += [text[end : code.start()], reference or code[0]]
        end = code.end()
    return "".join([*parts, text[end:]])


def breakable(name: str) -> str:
    """A long name that may go on in the next line after a dot, a slash or an underscore, and nowhere else."""
    return re.sub(r"(?<=\w)([._/=])(?=\w)", r"\1<wbr>", name)


def section(text: str, anchor: str) -> str:
    """What stands under the heading with this anchor, its subsections included."""
    kept = CODE.sub(lambda code: re.sub("(?m)^#", " ", code[0]), text)  # comments of a shell are no headings
    headings = list(HEADING.finditer(kept))
    if not anchor:
        ends = [heading.start() for heading in headings if len(heading[1]) == 2]
        return kept[: ends[0] if ends else None]
    for i, heading in enumerate(headings):
        if slug(heading[2], "-") == anchor:
            ends = [other.start() for other in headings[i + 1 :] if len(other[1]) <= len(heading[1])]
            return kept[heading.end() : ends[0] if ends else None]
    raise PluginError(f"There is no heading with the anchor #{anchor}.")


def section_tables(text: str, anchor: str) -> str:
    """Tables with what stands above each, and pictures, of one section."""
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n", CODE.sub(kept_inline, section(text, anchor)))]
    chosen = []
    for before, block in zip(["", *blocks], blocks, strict=False):
        if block.startswith("|"):
            caption = re.split(r"^[*-] ", before, flags=re.MULTILINE)[-1]  # of a list, its last item
            if HEADING.match(caption):
                chosen.append(f"**{HEADING.match(caption)[2]}**")
            elif caption and not caption.startswith(("|", "!", "```")):
                chosen.append(caption)
            chosen.append(block)
        elif block.startswith("!["):
            chosen.append("\n\n".join(block.split("\n")))
    return "\n\n".join(chosen)


def kept_inline(code: re.Match) -> str:
    """Blocks of code are no captions; code in a line is part of the text."""
    return "```" if code[0].startswith(("```", "~~~")) else code[0]
