"""Answers of a generator to many queries, under several ways of decoding."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import tqdm


@dataclass(frozen=True)
class Decoding:
    """One way of decoding: a name for tables and plots, and the arguments of `generate`.

    Attributes:
        name: such as `greedy`, `beam 5`, `temperature 0.7`.
        arguments: of `generate`.
        temperature: of sampling, `None` for a search.
    """

    name: str
    arguments: dict = field(hash=False)
    temperature: float | None = None

    @classmethod
    def greedy(cls) -> "Decoding":
        return cls("greedy", {"do_sample": False, "num_beams": 1})

    @classmethod
    def beam(cls, width: int) -> "Decoding":
        if width < 2:
            raise ValueError(f"A beam has at least 2 hypotheses, got {width}. Greedy decoding is always included.")
        return cls(f"beam {width}", {"do_sample": False, "num_beams": width})

    @classmethod
    def sampling(cls, temperature: float) -> "Decoding":
        if not 0 < temperature < math.inf:
            raise ValueError(f"A sampling temperature is positive, got {temperature}. Greedy decoding is its limit 0.")
        arguments = {"do_sample": True, "num_beams": 1, "temperature": float(temperature), "top_k": 0, "top_p": 1.0}
        return cls(f"temperature {temperature:g}", arguments, temperature)


@torch.no_grad()
def answer_queries(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    decoding: Decoding,
    *,
    num_samples: int = 1,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
) -> list[list[str]]:
    """Answers each query `num_samples` times.

    Queries are sorted by length for the batches and put back in order. The global random state is left as it was.

    Args:
        model: any encoder-decoder.
        tokenizer: its tokenizer.
        queries: texts.
        decoding: how.
        num_samples: answers per query; more than one for sampling, or up to the width of a beam.
        max_new_tokens: longest answer.
        max_source_length: queries are cut there, in tokens; by default the tokenizer's own limit.
        batch_size: queries at a time.
        seed: of the sampling.

    Returns:
        A list of `num_samples` texts for each query.
    """
    if not queries:
        return []
    encoded = tokenizer(list(queries), truncation=True, max_length=max_source_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(queries)), key=lambda index: lengths[index], reverse=True)
    answers: list[list[str]] = [[] for _ in queries]
    training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        model.eval()
        try:
            for start in tqdm(range(0, len(order), batch_size), desc=decoding.name, leave=False):
                rows = order[start : start + batch_size]
                features = [{name: encoded[name][row] for name in ("input_ids", "attention_mask")} for row in rows]
                batch = tokenizer.pad(features, return_tensors="pt").to(model.device)
                generated = model.generate(
                    **batch, **decoding.arguments, num_return_sequences=num_samples, max_new_tokens=max_new_tokens
                )
                texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
                for position, row in enumerate(rows):
                    of_row = texts[position * num_samples : (position + 1) * num_samples]
                    answers[row] = [text.strip() for text in of_row]
        finally:
            model.train(training)
    return answers


def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    decodings: Sequence[Decoding],
    *,
    num_samples: int = 1,
    **answering,
) -> tuple[dict[str, list[list[str]]], dict[str, float]]:
    """Answers each query under each decoding: the answers and the seconds they took, by the name of the decoding.

    Args:
        num_samples: answers per query of a sampling decoding; a search gives one.
        answering: further arguments of `answer_queries`.

    Raises:
        ValueError: without a query.
    """
    if not queries:
        raise ValueError("There is no query to answer: the split is empty.")
    answers, seconds = {}, {}
    for decoding in decodings:
        started = time.perf_counter()
        number = num_samples if decoding.temperature is not None else 1
        answers[decoding.name] = answer_queries(model, tokenizer, queries, decoding, num_samples=number, **answering)
        seconds[decoding.name] = time.perf_counter() - started
    return answers, seconds
