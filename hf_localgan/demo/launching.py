"""Starting the page. Slow modules are imported by `launch`, so that importing this one is quick."""

import socket
import sys
from collections.abc import Sequence

from hf_localgan.demo.gradio_import import import_gradio

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def launch(
    models: Sequence[str],
    *,
    energy: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    reference_queries: int = 1000,
    decodings: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
    device: str | None = None,
    trust_remote_code: bool = False,
    block: bool = True,
):
    """Serves a page on which models answer the same query side by side, and which shows draws of RAML.

    Nothing leaves the machine: no telemetry, no public link, and the page asks no other host for anything.

    Args:
        models: folders or Hub ids of generators, at least one. The first one's vocabulary is that of the draws.
        energy: folder of the energy that measures radii; by default `energy/` of the first model that has one.
        dataset: a data set for `load_pairs`, whose responses' radii are measured; by default that of the first
            evaluation in a model's folder, if it is the shipped corpus or a file or folder on this machine.
        split: of the data set; by default that of the evaluation, or "test".
        reference_queries: largest number of queries whose responses are measured at the start, evenly spaced.
        decodings: names of further decodings on the page, such as "beam 20".
        host: address to listen on. Any but loopback lets others on the network use the models.
        port: port to listen on.
        open_browser: open the page in the default browser.
        device: of the models, such as "cuda:0"; by default a GPU if there is one.
        trust_remote_code: run model code that comes with a checkpoint.
        block: return after Ctrl-C only. Otherwise return the running `gradio.Blocks`, which `close()` ends.

    Raises:
        ImportError: without gradio.
        OSError: if a model or the energy does not exist, or the port is taken.
        ValueError: for unknown decodings, and for models, energies, tokenizers and data sets that `load_page_models`
            refuses.
    """
    gradio = import_gradio()
    check_address(host, port)  # before models are loaded

    from hf_localgan.decoding.answers import Decoding
    from hf_localgan.demo.loading import load_page_models
    from hf_localgan.demo.page import build_page

    for name in decodings:
        Decoding.parse(name)
    page_models = load_page_models(
        models, energy=energy, dataset=dataset, split=split, reference_queries=reference_queries, device=device,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    for note in page_models.notes:
        print(note, file=sys.stderr)
    page = build_page(page_models, decodings)
    _serve(gradio, page, host, port, open_browser)
    if not block:
        return page
    page.block_thread()
    return None


def _serve(gradio, page, host: str, port: int, open_browser: bool):
    from hf_localgan.demo.style import CSS

    _, url, _ = page.launch(
        server_name=host, server_port=port, share=False, inbrowser=open_browser, prevent_thread_lock=True, quiet=True,
        footer_links=[], run_history=False, enable_monitoring=False, ssr_mode=False, theme=system_theme(gradio),
        css=CSS,
    )  # fmt: skip
    if host not in LOOPBACK:
        print(f"Everyone who can reach {host} can use this page.", file=sys.stderr)
    print(f"{url}   (Ctrl-C ends it)", flush=True)


def check_address(host: str, port: int):
    """Refuses an address at which no page can be served.

    Raises:
        OSError: if the port is taken or may not be used, or the host is no address of this machine.
    """
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        raise OSError(f"No page can be served at `{host}`, port {port}: {error}. Choose another port.") from error


def system_theme(gradio):
    """A theme with the fonts of the reader's system alone, so that no host is asked for one."""
    font = gradio.themes.Font
    return gradio.themes.Base(
        primary_hue="blue",
        font=[font("system-ui"), font("sans-serif")],
        font_mono=[font("ui-monospace"), font("monospace")],
    )
