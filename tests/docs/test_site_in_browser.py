"""The site as a reader sees it, in headless Chromium at a phone's width."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]  # a minute on a free machine

PHONE = {"width": 390, "height": 844}
SMALLEST = 12  # pixels of any text in an article

# Everything about a page in one call: what is asked of the document, not of its source.
LOOK = """smallest => {
    const article = document.querySelector("article");
    const shown = element => element.getClientRects().length > 0;
    const small = [...article.querySelectorAll("p, li, td, th, code, h1, h2, h3, dd, dt")]
        .filter(element => shown(element) && element.innerText.trim())
        .map(element => [parseFloat(getComputedStyle(element).fontSize), element.innerText.slice(0, 40)])
        .filter(([size]) => size < smallest);
    return {
        width: document.documentElement.scrollWidth,
        links: [...document.querySelectorAll("a[href]")].map(link => link.href),
        ids: [...document.querySelectorAll("[id]")].map(element => element.id),
        missing: [...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src),
        unnamed: [...article.querySelectorAll("img")].filter(image => !image.alt).map(image => image.src),
        wide: [...article.querySelectorAll("img")].filter(image => image.getBoundingClientRect().right > 391)
            .map(image => image.src),
        small: small.slice(0, 5),
        title: document.title,
        text: article.innerText.length,
    };
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the built site is served, on this machine only."""
    assert site.code == 0, site.said
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site.folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def seen(site, address, browser):
    """What every page looks like on a phone, what it asked for, and what it complained of."""
    context = browser.new_context(viewport=PHONE)
    # The whole index of the search costs seconds on every page, and has a test of its own below.
    index = json.loads((site.folder / "search" / "search_index.json").read_text(encoding="utf-8"))
    index["docs"] = index["docs"][:1]
    context.route("**/search_index.json", lambda route: route.fulfill(json=index))
    page, found, asked, complaints = context.new_page(), {}, [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in site.pages:
        asked.clear(), complaints.clear()
        answer = page.goto(address + path, wait_until="load")
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        found[path] = page.evaluate(LOOK, SMALLEST) | {
            "status": answer.status, "asked": list(asked), "complaints": list(complaints)
        }  # fmt: skip
    context.close()
    return found


def listed(seen, what) -> dict:
    """Pages where something was found that should not be."""
    return {path: look[what] for path, look in seen.items() if look[what]}


def test_every_page_opens_and_says_something(seen):
    assert len(seen) > 30
    for path, look in seen.items():
        assert look["status"] == 200 and look["text"] > 60 and "hf_localgan" in look["title"], path


def test_every_link_and_anchor_of_the_site_leads_somewhere(seen, site, address):
    broken = set()
    for path, look in seen.items():
        for link in look["links"]:
            if not link.startswith(address):
                continue
            parts = urlsplit(link)
            target = unquote(parts.path).lstrip("/")
            page = target.removesuffix("index.html")
            if page not in seen:
                broken |= set() if (site.folder / target).is_file() else {(path, link)}
            elif parts.fragment and unquote(parts.fragment) not in seen[page]["ids"]:
                broken.add((path, link))
    assert not broken


def test_no_link_leaves_the_web(seen):
    schemes = {urlsplit(link).scheme for look in seen.values() for link in look["links"]}
    assert schemes <= {"http", "https"}


def test_every_picture_is_there_has_words_for_it_and_fits_a_phone(seen):
    assert sum(len(look["ids"]) for look in seen.values()) > 500
    assert not listed(seen, "missing") and not listed(seen, "unnamed") and not listed(seen, "wide")


def test_no_page_complains(seen):
    assert not listed(seen, "complaints")


def test_nothing_is_asked_of_another_host(seen, address):
    foreign = {url for look in seen.values() for url in look["asked"] if not url.startswith((address, "data:"))}
    assert not foreign


def test_no_page_is_wider_than_a_phone(seen):
    assert not {path: look["width"] for path, look in seen.items() if look["width"] > PHONE["width"]}


def test_text_is_large_enough_to_read(seen):
    assert not listed(seen, "small")


def test_a_wide_table_scrolls_in_its_own_box(browser, address):
    page = browser.new_page(viewport=PHONE)
    page.goto(address + "results/", wait_until="load")
    page.wait_for_selector(".md-typeset__scrollwrap")
    boxes = page.evaluate("""() => [...document.querySelectorAll("article table")].map(table => {
        const box = table.closest(".md-typeset__scrollwrap");
        const scrolls = box !== null && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
        return [table.scrollWidth, scrolls ? box.clientWidth : 0, scrolls ? box.scrollWidth : 0];
    })""")
    page.close()
    wide = [box for box in boxes if box[0] > PHONE["width"]]
    assert wide  # the tables of results are
    assert all(client and client <= PHONE["width"] and inner >= table for table, client, inner in wide)


def test_tables_of_results_fit_a_screen_and_keep_the_names_of_their_rows_on_a_phone(browser, address):
    """At 1280 pixels no column is cut off; at 390 the first one stays while the others scroll."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + "results/", wait_until="load")
    page.wait_for_selector(".md-typeset__scrollwrap")
    cut = page.evaluate("""() => [...document.querySelectorAll("article table")]
        .filter(table => table.scrollWidth > table.closest(".md-typeset__scrollwrap").clientWidth + 1)
        .map(table => table.innerText.split("\\n")[0])""")
    page.set_viewport_size(PHONE)
    first, second = page.evaluate("""() => {
        const tables = [...document.querySelectorAll("article table")];
        const box = tables.map(table => table.closest(".md-typeset__scrollwrap")).find(box => box.scrollWidth > 500);
        const cells = [...box.querySelectorAll("tbody tr td")].slice(0, 2);
        const before = cells.map(cell => cell.getBoundingClientRect().left);
        box.scrollLeft = 200;
        return cells.map((cell, i) => before[i] - cell.getBoundingClientRect().left);
    }""")
    page.close()
    assert not cut and abs(first) < 20 and second == 200


def test_the_search_finds_a_class_without_another_host(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="load")
    page.locator("input.md-search__input").click()
    page.keyboard.type("LocalGanTrainer", delay=20)
    page.wait_for_selector(".md-search-result__item a", timeout=60_000)
    first = page.locator(".md-search-result__item a").first.get_attribute("href")
    page.close()
    assert first.startswith(address) and all(url.startswith((address, "data:", "blob:")) for url in asked)
