"""The page in a real browser: both tabs, warnings, a phone's width; nothing is asked of any other host."""

import os
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from hf_localgan import measure_locality
from hf_localgan.demo import launch

from .conftest import ROWS

WAIT = 60_000  # milliseconds until a test gives up; pages take as long as they need
in_browser = pytest.mark.browser


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def connections(monkeypatch):
    """Addresses outside of this machine that anything in this process looks up or connects to."""
    found, connect, look_up = [], socket.socket.connect, socket.getaddrinfo

    def outside(address) -> bool:
        host = address[0] if isinstance(address, tuple) else None  # a name is a socket in the file system
        return host not in (None, "", "127.0.0.1", "localhost", "::1", "0.0.0.0")

    def connecting(self, address):
        found.extend([address] if outside(address) else [])
        return connect(self, address)

    def looking_up(host, *args, **kwargs):
        found.extend([host] if outside((host,)) else [])
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    return found


@pytest.fixture
def served(saved, data, connections):
    """The address of a page with two tiny models, which ends with the test."""
    models = [saved("gan", 0, energy=True, about={"dataset": str(data), "objective": "LocalGAN"}), saved("plain", 1)]
    port = free_port()
    page = launch(list(map(str, models)), port=port, block=False)
    yield f"http://127.0.0.1:{port}/"
    page.close(verbose=False)
    assert connections == []


@pytest.fixture
def opened(served, browser):
    """`opened(width=1280)`: the page in a browser; no error and no other host are accepted when the test ends."""
    asked, said, pages = [], [], []

    def open_page(width: int = 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(served)
        page.wait_for_selector("#lg-query textarea")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert asked and {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {
        urlsplit(served).netloc
    }
    assert said == []


def answer(page, query: str):
    page.fill("#lg-query textarea", query)
    page.click("#lg-ask")
    page.wait_for_selector(".lg-card")


def draws(page) -> str:
    return page.inner_html("#lg-draws")


def set_tau(page, value: str):
    page.fill("#lg-tau input[type=number]", value)
    page.press("#lg-tau input[type=number]", "Tab")


def open_draws(page):
    page.get_by_role("tab", name="RAML draws").click()
    page.wait_for_selector("#lg-draws p")


@in_browser
def test_two_models_answer_side_by_side_with_their_radii(opened, text_energy, tiny_tokenizer):
    page = opened()
    answer(page, "how are you ?")
    assert page.locator(".lg-name b").all_inner_texts() == ["gan", "plain"]
    texts = [text.split("\n", 1)[-1].strip() for text in page.locator(".lg-text").all_inner_texts()]
    shown = [float(text) for text in page.locator(".lg-radius").all_inner_texts()]
    assert len(texts) == 2 and texts[0] != texts[1]
    expected = measure_locality(text_energy(), tiny_tokenizer, "how are you ?", texts).radii
    assert shown == pytest.approx(expected.tolist(), abs=0.051)
    assert page.locator(".lg-mark").count() == 2 and "Radii of 6 references" in page.inner_text("#lg-answers")
    assert all(text in page.inner_text("#lg-own") for text in ROWS[1]["responses"])
    boxes = [page.locator(".lg-card").nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


@in_browser
def test_several_answers_are_sampled(opened):
    page = opened()
    page.get_by_label("sampling").check()
    number = page.get_by_label("number input for Answers of each model")
    number.fill("3")
    number.press("Tab")
    answer(page, "hello")
    page.wait_for_function("document.querySelectorAll('.lg-answer').length === 6")
    assert page.locator(".lg-badge").all_inner_texts() == ["A1", "A2", "A3", "B1", "B2", "B3"]


@in_browser
def test_draws_change_as_tau_moves(opened):
    page = opened()
    page.get_by_role("tab", name="RAML draws").click()
    page.fill("#lg-reference textarea", "hello how are you")
    set_tau(page, "1.4")
    page.wait_for_selector("#lg-draws ins")
    hot = draws(page)
    set_tau(page, "0")
    page.wait_for_function("document.querySelector('#lg-draws') && !document.querySelector('#lg-draws ins')")
    cold = draws(page)
    assert "<del>" not in cold and cold.count("hello how are you") == 6 and hot != cold
    slider = page.locator("#lg-tau input[type=range]")
    slider.focus()
    slider.press("End")  # the slider itself moves them, too
    page.wait_for_selector("#lg-draws ins")
    assert "1.500" in page.inner_text("#lg-drawn")


@in_browser
def test_what_goes_wrong_is_a_warning_on_a_page_that_goes_on(opened):
    page = opened()
    page.fill("#lg-query textarea", "   ")
    page.click("#lg-ask")
    page.get_by_text("The query is empty. Type a sentence.").wait_for()
    answer(page, "hello")
    open_draws(page)
    page.fill("#lg-reference textarea", "hello " * 61)
    page.press("#lg-reference textarea", "Tab")
    page.get_by_text("The reference has 61 tokens. Type at most 60.").wait_for()
    assert page.locator("#lg-draws p").count() == 6  # the last good ones stay


@in_browser
def test_a_phone_shows_all_of_it(opened):
    page = opened(width=390)
    answer(page, "how are you ?")
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 390
    for selector in ("#lg-ask", ".lg-card >> nth=1", ".lg-plot", "#lg-own"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 150, selector
    open_draws(page)
    assert page.evaluate(width) == 390
    box = page.locator("#lg-tau input[type=range]").bounding_box()
    assert box["x"] + box["width"] <= 390 and box["width"] > 80


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(saved, tmp_path):
    port, path = free_port(), saved("plain")
    command = [sys.executable, "-m", "hf_localgan.cli", "demo", str(path), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        line = next((one for one in process.stdout if "http" in one), "")
        assert line, process.communicate()[1]
        assert re.match(rf"http://127\.0\.0\.1:{port}/", line)
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert asking.recv(20).split()[1] == b"200"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "No model has an energy" in told and "Traceback" not in told


@in_browser
def test_a_conversation_is_remembered_until_a_new_one_begins(saved, tiny_tokenizer, browser):
    tiny_tokenizer.init_kwargs |= {"history_turns": 2, "turn_separator": " . "}
    port = free_port()
    demo = launch([str(saved("talks", 3))], port=port, block=False)
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    try:
        page.goto(f"http://127.0.0.1:{port}/")
        answer(page, "hello")
        said = page.inner_text(".lg-text > span:last-child").strip()
        answer(page, "fine")
        page.wait_for_selector(f"text=reads: hello . {said} . fine")
        page.click("#lg-anew")
        page.wait_for_selector(".lg-card", state="detached")
        answer(page, "thanks")
        assert "reads:" not in page.inner_text("#lg-answers")
    finally:
        page.close()
        demo.close(verbose=False)
