"""Makes docs/pictures/annotation.png: the page on which a person judges responses, in a headless Chromium.

    python docs/make_annotation_picture.py

The responses are references of the shipped corpus. Needs the extra `annotation`, playwright for Python and a program
`chromium`.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from hf_localgan.annotation import System, make_study, serve_sheet
from hf_localgan.data import load_pairs

PICTURE = Path(__file__).parent / "pictures" / "annotation.png"


def main():
    grouped = load_pairs("smalltalk").grouped["test"]
    rows = [(row["query"], row["responses"]) for row in grouped if len(row["responses"]) > 2][:100]
    systems = [System(f"system {at}", [responses[at] for _, responses in rows]) for at in (0, 1)]
    queries, references = [query for query, _ in rows], [responses[2:] for _, responses in rows]
    study = make_study(queries, references, systems, query_count=50, annotators=1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        path = Path(folder) / "sheet_1.csv"
        study.sheet("sheet_1").write_csv(path)
        server = serve_sheet(path, port=0, block=False)
        chromium = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 800, "height": 640})
        page.goto(server.url)
        page.wait_for_selector("#questions li")
        for count, key in enumerate("1101101101011", start=1):
            page.keyboard.press(key)
            page.locator("#count", has_text=f"{count} of").wait_for()
        page.screenshot(path=PICTURE)
        chromium.close()
        server.close()


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__.split("\n\n", 1)[0], formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    main()
