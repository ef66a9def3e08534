"""Makes docs/pictures/demo.png and demo_raml.png: the page of two models, in a headless Chromium.

    python docs/make_demo_pictures.py MODEL [MODEL ...] [--query TEXT] [--dataset DATA]

Needs the extra `demo`, playwright for Python and a program `chromium`.
"""

import argparse
import shutil
import socket
from pathlib import Path

from playwright.sync_api import sync_playwright

from hf_localgan.demo import launch

PICTURES = Path(__file__).parent / "pictures"
QUERY = "I lost my keys on the bus this morning. What should I do?"


def main(models: list[str], query: str, dataset: str | None):
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    served = launch(models, dataset=dataset, port=port, block=False)
    with sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 700})
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_label("sampling").check()
        number = page.get_by_label("number input for Answers of each model")
        number.fill("3")
        number.press("Tab")
        page.fill("#lg-query textarea", query)
        page.click("#lg-ask")
        page.wait_for_function(f"document.querySelectorAll('.lg-answer').length === {3 * len(models)}")
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # until the button has faded back
        page.screenshot(path=PICTURES / "demo.png", full_page=True)
        page.get_by_role("tab", name="RAML draws").click()
        page.wait_for_selector("#lg-draws ins")
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURES / "demo_raml.png", full_page=True)
        chromium.close()
    served.close(verbose=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", 1)[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders of generators, one with `energy/`")
    parser.add_argument("--query", default=QUERY)
    parser.add_argument("--dataset", help="by default that of the evaluation")
    args = parser.parse_args()
    main(args.models, args.query, args.dataset)
