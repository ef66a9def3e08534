"""The documentation as files: it builds, every public name is in it, and every name that it mentions exists."""

import importlib.util
import re
from dataclasses import fields
from html import unescape
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError
from transformers import Seq2SeqTrainingArguments

import hf_localgan
from hf_localgan import cli
from hf_localgan.commands.exits import MEANINGS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ROOMS = sorted(path.parent.name for path in (ROOT / "hf_localgan").glob("*/__init__.py"))
INTERNAL = {"commands"}  # used from the command line, not from Python


def test_the_site_builds_without_a_warning(site):
    assert site.code == 0, site.said
    assert "" in site.pages and "tutorial/" in site.pages and len(site.pages) > 30


def test_every_public_name_has_its_place_in_the_api_pages(site):
    anchors = set()
    for page in site.pages:
        if page.startswith("api/"):
            anchors |= set(re.findall(r'id="hf_localgan\.([\w.]+)"', site.text(page)))
    shown = {anchor.rpartition(".")[2] for anchor in anchors if anchor.rpartition(".")[0].islower()}  # of modules
    assert set(hf_localgan.__all__) - shown == set()
    for room in ROOMS:
        exported = getattr(import_module(f"hf_localgan.{room}"), "__all__", [])
        documented = [name for name in exported if f"{room}.{name}" in anchors]
        assert documented or room in INTERNAL or not exported, f"no API page shows hf_localgan.{room}"


def test_the_overview_of_the_api_leads_to_every_public_name(site):
    text = site.text("api/")
    missing = [name for name in hf_localgan.__all__ if not re.search(rf'href="[^"]*#hf_localgan[\w.]*\.{name}"', text)]
    assert not missing


def test_settings_show_their_help_and_their_default(site):
    text = unescape(re.sub(r"<[^>]+>", "", site.text("api/trainers/")))
    assert "Weight of the radial term, relu(delta_alpha), in the generator's loss." in text
    assert "metadata=" not in text
    groups = unescape(re.sub(r"<[^>]+>", "", site.text("api/recipes/")))
    assert "Name of the configuration of a data set on the Hub." in groups


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_name_of_the_package_that_a_page_mentions_exists(path):
    names = set(re.findall(r"\bhf_localgan(?:\.\w+)+\b", path.read_text(encoding="utf-8")))
    for name in sorted(names):
        if name.endswith(".py"):
            continue
        found, parts = hf_localgan, name.split(".")[1:]
        for i, part in enumerate(parts):
            if not hasattr(found, part):
                found = import_module(".".join(["hf_localgan", *parts[: i + 1]]))  # raises where there is none
            else:
                found = getattr(found, part)


EQUATIONS = {
    "raml": ["3", "4", "5", "7", "8", "9", "10", "11", "Prop. 2", "Sec. 2.2, end"],
    "localgan": ["7, 8", "Theorem 1", "16", "17", "18"],
    "dbm": ["7", "8", "16", "Theorem 1"],
    "gan_ael": ["approximate embedding", "critic", "generator, critic", "discriminator", "generator, log"],
    "adver_regs": ["REGS, gradient", "REGS, rewards", "REGS, baseline", "REGS, discriminator", "REGS, control"],
    "aim": ["AIM, discriminator", "AIM, log-odds", "AIM, bound", "AIM, information", "AIM, objective", "DAIM"],
    "mmi": ["MMI-antiLM", "MMI-bidi", "MMI, tuning", "energy"],
    "speech": ["location-aware attention", "guided attention", "phone error rate"],
}


@pytest.mark.parametrize("page", EQUATIONS)
def test_every_equation_has_a_row_with_a_name_that_is_linked_to_the_api(site, page):
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>.*?</tr>", site.text(f"{page}/"), flags=re.DOTALL)
    whole = dict(re.findall(r"<tr>\s*<td>(.*?)</td>(.*?)</tr>", site.text(f"{page}/"), flags=re.DOTALL))
    for equation in EQUATIONS[page]:
        assert equation in rows
        assert re.search(r'href="[^"]*(api/[^"]*#hf_localgan|dbm)', whole[equation]), equation


METHODS = ("mle", "raml", "localgan", "dbm", "gan_ael", "adver_regs", "aim", "mmi", "speech")


@pytest.mark.parametrize("page", METHODS)
def test_every_method_page_has_the_same_order(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    idea, *parts = re.split(r"^## ", prose, flags=re.MULTILINE)
    titles = [part.splitlines()[0] for part in parts]
    assert titles[:3] == ["Example", "Settings", "What is logged"]
    assert titles[3].startswith("What differs from the ")
    assert titles[4:] == ([] if page == "mle" else ["Equations", "Traps"]) + ["Results"]
    assert len([line for line in idea.splitlines()[1:] if line and not line.startswith("$$")]) <= 10
    settings = parts[1].split("\n\n")
    rows = next(block for block in settings if block.startswith("| setting |")).splitlines()[2:]
    assert 8 <= len(rows) <= 9  # those that matter


@pytest.mark.parametrize("page", [*METHODS, "papers"])
def test_every_setting_of_a_method_page_is_a_field_of_the_package(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+) \|", "\n".join(re.findall(r"^\| setting \|.*?\n\n", text, re.M | re.S)), re.M)
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert len(names) >= 8
    known = {field.name for field in fields(Seq2SeqTrainingArguments)}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "hf_localgan").rglob("*.py"))
    assert [name for name in sorted(names - known) if not re.search(rf"^\s*{name}: ", source, re.M)] == []


def test_equations_are_typeset_without_a_script_or_another_host(site):
    for page in ("raml", "localgan", "dbm"):
        text = site.text(f"{page}/")
        assert text.count("<math ") > 40 and '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in text
    for page in site.pages:
        text = re.sub(r"<(code|pre).*?</\1>", "", site.text(page), flags=re.DOTALL)
        assert "arithmatex" not in text and not re.search(r"(mathjax|katex)", text, re.IGNORECASE), page


def test_an_equation_that_cannot_be_read_fails_the_build():
    hook = importlib.util.spec_from_file_location("equations", DOCS / "hooks" / "equations.py")
    equations = importlib.util.module_from_spec(hook)
    hook.loader.exec_module(equations)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))

    def made(tex: str) -> str:
        return equations.on_page_content(rf'<p><span class="arithmatex">\({tex}\)</span></p>', page, None, None)

    assert "<mo>&#x0003C;</mo>" in made("a &lt; b") and "</mi><mspace" in made(r"\log p")
    with pytest.raises(PluginError, match=r"page.md: \\nosuch of"):
        made(r"\nosuch x")


@pytest.mark.parametrize("page", EQUATIONS)
def test_every_setting_of_the_table_of_traps_is_a_field_of_the_package(page):
    """Of a cell such as `radial_scale="spread"`, the name before the sign is an argument or field somewhere."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    traps = text[text.index("| trap | what goes wrong |") :].split("\n\n")[0]
    assert len(traps.splitlines()) >= 7
    settings = set(re.findall(r"`(\w+)=", traps))
    assert len(settings) >= 2
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "hf_localgan").rglob("*.py"))
    settings -= {field.name for field in fields(Seq2SeqTrainingArguments)}
    missing = [name for name in settings if not re.search(rf"^\s*{name}: |[(,]\s*\*?{name}: |\({name},", source, re.M)]
    assert not missing


def test_every_page_has_its_place_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    for path in (*PAGES, *sorted((DOCS / "api").glob("*.md"))):
        page = path.relative_to(DOCS).as_posix()
        assert re.search(rf"[ ]{re.escape(page)}$", navigation, re.M), f"`nav` of mkdocs.yml does not name {page}."


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_on_a_page_exists(path):
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert set(re.findall(r"\bhf-localgan ([\w-]+)", blocks)) <= set(cli.MODULES)
    scripts = re.findall(r"\b(?:recipes|benchmarks|docs)/[\w/]+\.(?:py|yaml)\b", blocks)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_page_of_the_command_line_has_every_command_and_exit_code():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name in cli.MODULES:
        assert f"| `{cli.PROG} {name}" in text, name
    assert dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.MULTILINE)) == {
        str(code): meaning for code, meaning in MEANINGS.items()
    }


def test_the_page_of_results_has_its_numbers_from_the_pages_that_explain_them(site):
    """No number of a table is typed there; every table of the recipes' pages is on it."""
    own = (DOCS / "results.md").read_text(encoding="utf-8")
    assert not re.search(r"^\|.*\d\.\d", own, flags=re.MULTILINE)
    shown = unescape(re.sub(r"<[^>]+>", "", site.text("results/")))
    for recipe in ("smalltalk", "dailydialog_pp", "multi30k_en_fr"):
        for line in (ROOT / "recipes" / recipe / "README.md").read_text(encoding="utf-8").splitlines():
            if line.startswith("| ") and re.search(r"\d\.\d", line):
                cell = [one for one in re.split(r" \| |\| | \|", line) if re.search(r"\d\.\d", one)][-1]
                assert re.sub(r"[`*]", "", cell).strip() in shown, line


def test_nothing_of_markdown_is_left_in_the_text(site):
    for page in site.pages:
        for paragraph in re.findall(r"<(?:p|td|li)>(.*?)</(?:p|td|li)>", site.text(page), flags=re.DOTALL):
            text = re.sub(r"<(code|pre).*?</\1>", "", paragraph, flags=re.DOTALL)
            assert not re.search(r"\]\(|\| *-{3}|^\s*[*-] |\*\*|^:::", text, flags=re.MULTILINE), f"{page}: {text:.200}"


def test_folded_parts_of_cards_are_no_raw_text(site):
    folded = 0
    for page in (page for page in site.pages if page.startswith("repository/model_cards/")):
        for part in re.findall(r"<details.*?</details>", site.text(page), flags=re.DOTALL):
            text = re.sub(r"<(code|pre).*?</\1>", "", part, flags=re.DOTALL)
            assert not re.search(r"\]\(|\| *-{3}|`|\*\*|^#", text, flags=re.MULTILINE), f"{page}: {text:.200}"
            folded += 1
    assert folded > 50


def test_a_section_of_a_docstring_is_one_item_for_each_of_its_entries(site):
    """Neither a second name nor a second line becomes a type of its own."""
    assert re.search(r"<b><code><span[^>]*>train,\s+validation,\s+test</span>", site.text("api/recipes/"))
    for page in (page for page in site.pages if page.startswith("api/")):
        for section in re.findall(r"Returns:.*?<ul>(.*?)</ul>", site.text(page), flags=re.DOTALL):
            assert section.count("<li") == 1, f"{page}: {section}"
        assert not re.search(r"<b><code>(<span[^>]*>)?[^<]*(,|`[^<]*)<", site.text(page)), page


def test_an_interval_stands_below_a_value_only_where_it_ends_the_cell(site):
    text = site.text("metrics_against_people/")
    assert re.search(r'0\.67 <span class="interval below">\(0\.12 to 1\.00\)</span></td>', text)
    assert re.search(r'\.67 <span class="interval">\(\.12 to 1\.00\)</span>, Rel mean', text)


def test_the_dashes_of_an_option_stay_with_its_name(site):
    assert re.search(r'<code><span class="option">--quoting</span></code>', site.text("tutorial/"))
    assert 'class="option"' not in "".join(re.findall(r"<pre>.*?</pre>", site.text("cli/"), flags=re.DOTALL))


def test_blocks_of_code_fit_a_screen():
    """120 signs fit 1280 pixels; commands of PowerShell, where a line goes on by another sign, may scroll."""
    for path in [*PAGES, *(ROOT / "recipes").glob("**/README.md"), ROOT / "benchmarks" / "README.md"]:
        text = path.read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
            wide = [line for line in block.splitlines() if len(line) > 120 and language != "powershell"]
            assert not wide, f"{path}: {wide}"


def test_links_out_of_the_docs_are_right_in_the_repository_too():
    for path in PAGES:
        text = re.sub(r"^```.*?^```|`[^`\n]+`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s#]+)", text):
            assert re.match(r"https?://", target) or (path.parent / target).exists(), f"{path.name}: {target}"
