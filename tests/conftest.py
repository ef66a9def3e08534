"""Tiny models and a tiny tokenizer, built in memory. Every fixture is a factory or read-only."""

import gc
import importlib.util
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration

TINY_VOCABULARY = "<pad> <s> </s> <unk> hello how are you i am fine thanks what is your name my ? . !".split()


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Tiny tensors are slower on several threads, and workers of a parallel run would fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """Keeps what outlives a module from being looked through again and again.

    A trainer collects garbage when it starts; over all modules that are loaded this takes half a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def bars_and_messages_as_before():
    """Commands that a test runs in this process turn both off for the whole of it."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    yield
    logging.enable_progress_bar()
    logging.set_verbosity(level)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Files that a test loads are cached in its own folder, and no bars are drawn."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="session")
def tiny_config():
    """`tiny_config(**fields)`: an `RnnSeq2SeqConfig` of 20 tokens and 8 units."""

    def build(**fields) -> RnnSeq2SeqConfig:
        return RnnSeq2SeqConfig(**{"vocab_size": 20, "embedding_size": 6, "hidden_size": 8, **fields})

    return build


@pytest.fixture(scope="session")
def tiny_generator(tiny_config):
    """`tiny_generator(seed=0, **fields)`: a recurrent generator in evaluation mode.

    Its parameters are moved from their initial values, so that biases are not zero, no two tensors are equal by
    construction, and what reads a padding embedding shows.
    """

    def build(seed: int = 0, **fields) -> RnnSeq2SeqForConditionalGeneration:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = RnnSeq2SeqForConditionalGeneration(tiny_config(**fields)).eval()
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    return build


@pytest.fixture(scope="session")
def tiny_t5():
    """`tiny_t5(seed=0, **fields)`: a T5 of the tiny vocabulary's size, in evaluation mode."""

    def build(seed: int = 0, **fields) -> T5ForConditionalGeneration:
        sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return T5ForConditionalGeneration(T5Config(**{**sizes, **tokens, **fields})).eval()

    return build


@pytest.fixture(scope="session")
def tiny_bart():
    """`tiny_bart(seed=0, **fields)`: a BART of the tiny vocabulary's size, in evaluation mode."""

    def build(seed: int = 0, **fields) -> BartForConditionalGeneration:
        sizes = {"vocab_size": 20, "d_model": 8, "max_position_embeddings": 64}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
        tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        tokens["forced_eos_token_id"] = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return BartForConditionalGeneration(BartConfig(**{**sizes, **tokens, **fields})).eval()

    return build


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Twenty words, ids 0 to 3 for `<pad>`, `<s>`, `</s>`, `<unk>`; an encoding ends with `</s>`."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(TINY_VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


# ---- the Hub ----


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, for tests that are marked for it."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.fail(f"These tests need Chromium, and none of {', '.join(names)} is on the path. Install it.")
    from playwright.sync_api import sync_playwright

    options = [
        "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=options)
        yield opened
        opened.close()


@pytest.fixture
def drawn_curves(monkeypatch) -> dict[str, dict]:
    """Curves of the pictures that are drawn in a test: by file, panel and label, the steps and the values."""
    from matplotlib.figure import Figure

    pictures: dict[str, dict] = {}
    savefig = Figure.savefig

    def save(figure, path, **settings):
        # The file is written beside its place and renamed: `.training-abc.png`.
        name = f"{Path(path).name.lstrip('.').rsplit('-', 1)[0]}.png"
        pictures[name] = {
            axis.get_ylabel(): {
                line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines
            }
            for axis in figure.axes
        }
        return savefig(figure, path, **settings)

    monkeypatch.setattr(Figure, "savefig", save)
    return pictures


@pytest.fixture
def hub(monkeypatch, tmp_path_factory):
    """A Hub of this process (`tests/hub/loopback_hub.py`), to which the unmodified client of this process talks.

    The user is logged in with write permission; failures need not be waited for.
    """
    import huggingface_hub.constants
    import huggingface_hub.utils._http
    import transformers.utils.hub

    path = Path(__file__).parent / "hub" / "loopback_hub.py"
    spec = importlib.util.spec_from_file_location("loopback_hub", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.LoopbackHub()
    constants, cache = huggingface_hub.constants, tmp_path_factory.mktemp("hub-cache")
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    api = huggingface_hub.hf_api.api
    monkeypatch.setattr(api, "endpoint", server.url)
    monkeypatch.setenv("HF_TOKEN", module.TOKEN)
    yield server
    server.close()
