"""Answers of a generator to many queries, under any decoding."""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList
from transformers.utils.logging import tqdm

from hf_localgan.data.histories import tokenizer_history
from hf_localgan.models.rnn_seq2seq.stopping_rnn_seq2seq import StopAtText
from hf_localgan.text import without_surrogates
from hf_localgan.turns import History, token_counts

LEAST_TEMPERATURE = 1e-6  # logits are divided by it, and must stay finite


@dataclass(frozen=True)
class Decoding:
    """A decoding: a name for tables and plots, and a method that generates token ids.

    Evaluation, the monitor and the sample table of the trainers, chat, demo and pipelines answer by `generate`. A
    subclass replaces it, and then works in all of them: it may pass logits processors, or draw candidates and return
    the best of them.

    ```python
    @dataclass(frozen=True)
    class Longest(Decoding):
        def generate(self, model, batch, *, tokenizer, num_return_sequences=1, max_new_tokens, **arguments):
            drawn = super().generate(
                model, batch, tokenizer=tokenizer, num_return_sequences=8 * num_return_sequences,
                max_new_tokens=max_new_tokens, **arguments,
            )                                                        # (batch * 8 * returned, time)
            lengths = (drawn != tokenizer.pad_token_id).sum(dim=1).view(-1, 8)
            rows = torch.arange(0, len(drawn), 8, device=drawn.device) + lengths.argmax(dim=1)
            return drawn[rows]                                       # (batch * returned, time)

    answer_queries(model, tokenizer, ["How are you?"], Longest("longest of 8", Decoding.sampling(1.0).arguments))
    ```

    `register_decoding` gives it a name for the command line and for YAML.

    Attributes:
        name: such as `greedy`, `beam 5`, `temperature 0.7`.
        arguments: those of the model's `generate` that JSON can hold.
        temperature: of sampling, logits are divided by it; such a decoding can answer a query many times and is a point
            of a sweep of temperatures. `None` for a search, and for every decoding that gives one answer.
    """

    name: str
    arguments: dict[str, Any] = field(hash=False)
    temperature: float | None = None

    # Values of each setting that `tune_decodings` tries; none for a decoding without numbers to choose.
    grid: ClassVar[Mapping[str, tuple]] = {}

    @classmethod
    def greedy(cls) -> "Decoding":
        """The most probable next token, again and again."""
        return cls("greedy", {"do_sample": False, "num_beams": 1})

    @classmethod
    def beam(cls, width: int) -> "Decoding":
        """Beam search of `width` hypotheses, at least 2."""
        if width < 2:
            raise ValueError(f"A beam has at least 2 hypotheses, got {width}. Greedy decoding is always included.")
        return cls(f"beam {width}", {"do_sample": False, "num_beams": width})

    @classmethod
    def sampling(cls, temperature: float, top_p: float = 1.0, num_beams: int = 1) -> "Decoding":
        """Draws from the whole vocabulary at a temperature above 0.

        Args:
            temperature: logits are divided by it.
            top_p: draw from the fewest tokens that have this probability together, in (0, 1].
            num_beams: more than 1 draws the hypotheses of a beam.
        """
        if not 0 < temperature < math.inf:
            raise ValueError(f"A sampling temperature is positive, got {temperature}. Greedy decoding is its limit 0.")
        if temperature < LEAST_TEMPERATURE:
            raise ValueError(
                f"A sampling temperature is at least {LEAST_TEMPERATURE:g}, got {temperature}: logits divided by less "
                "overflow. Greedy decoding is its limit 0."
            )
        arguments = {
            "do_sample": True, "num_beams": num_beams, "temperature": float(temperature), "top_k": 0, "top_p": top_p
        }  # fmt: skip
        nucleus = "" if top_p == 1 else f", top-p {top_p:g}"
        beams = "" if num_beams == 1 else f", {num_beams} beams"
        return cls(f"temperature {temperature:g}{nucleus}{beams}", arguments, temperature)

    @classmethod
    def parse(cls, text: str) -> "Decoding":
        """The decoding of a name, as the command line and YAML give it.

        Args:
            text: a registered name and its values, such as `greedy`, `beam 5`, `temperature 0.7`.

        Raises:
            ValueError: for an unknown name, or values that the decoding does not take.
        """
        word, *values = text.split() or [""]
        entry = _REGISTRY.get(word)
        if entry is None:
            names = ", ".join(f"`{example}`" for example in decoding_examples())
            raise ValueError(f"There is no decoding {text!r}. Name one such as {names}.")
        try:
            inspect.signature(entry.make).bind(*values)
        except TypeError:
            count = f"{len(values)} values" if len(values) != 1 else "1 value"
            raise ValueError(f"{text!r} has {count} after `{word}`. Write it as in `{entry.example}`.") from None
        return entry.make(*values)

    @property
    def most_answers(self) -> int | None:
        """How many different answers a query can have; `None` where there is no limit."""
        return None if self.arguments.get("do_sample", False) else self.arguments.get("num_beams", 1)

    def settings(self) -> dict[str, Any]:
        """What distinguishes this decoding from another of the same name, for the JSON files of evaluations.

        By default `arguments`; a subclass adds its own.
        """
        return self.arguments

    def generate(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        *,
        tokenizer: PreTrainedTokenizerBase,
        num_return_sequences: int = 1,
        max_new_tokens: int,
        **arguments: Any,
    ) -> Tensor:
        """Token ids of the answers.

        Args:
            model: an encoder-decoder in evaluation mode.
            batch: the encoder's inputs, `input_ids` and `attention_mask` of shape `(batch, source_time)`.
            tokenizer: the model's.
            num_return_sequences: answers to each query, the best first where they have an order.
            max_new_tokens: longest answer, in tokens.
            arguments: further ones of the model's `generate`, which win over the decoding's own.

        Returns:
            Shape `(batch * num_return_sequences, time)`, exactly; answers to one query stand together. Each begins with
            the decoder's start token; padding follows its end.
        """
        counts = {"num_return_sequences": num_return_sequences, "max_new_tokens": max_new_tokens}
        merged: dict[str, Any] = {**self.arguments, **counts, **arguments}
        stops = merged.pop("stop_strings", None)
        if stops is not None:
            # The `stop_strings` of `generate` do not work for vocabularies of whole words.
            criteria = [*(merged.get("stopping_criteria") or ()), StopAtText(tokenizer, stops)]
            merged["stopping_criteria"] = StoppingCriteriaList(criteria)
        return model.generate(**batch, **merged)  # type: ignore[operator]  # not declared by `PreTrainedModel`


class RegisteredDecoding(NamedTuple):
    """An entry of the registry of decodings.

    Attributes:
        make: makes the decoding of the values that follow the word, which are text.
        example: a whole name, for help and errors.
    """

    make: Callable[..., Decoding]
    example: str


_REGISTRY: dict[str, RegisteredDecoding] = {}


def register_decoding(word: str, make: Callable[..., Decoding], example: str):
    """Makes a decoding known to `Decoding.parse`, and so to the command line and YAML.

    Args:
        word: the first word of its name.
        make: makes it of the words that follow, which are text: `lambda width: Decoding.beam(int(width))`. Raises a
            `ValueError` that says what is wrong with them.
        example: a whole name, such as `beam 5`, for help and errors.

    Raises:
        ValueError: for a word that is taken or holds a space.
    """
    if not word or word.split() != [word]:
        raise ValueError(f"`word` must be a single word, got {word!r}. Values follow it in a name: `{example}`.")
    if word in _REGISTRY:
        raise ValueError(
            f"`{word}` names a decoding already, such as `{_REGISTRY[word].example}`. Choose another word."
        )
    _REGISTRY[word] = RegisteredDecoding(make, example)


def decoding_examples() -> list[str]:
    """A name of every registered decoding."""
    return [entry.example for entry in _REGISTRY.values()]


def number_in_name(text: str) -> float:
    """A number in the name of a decoding, for the functions that `register_decoding` takes as `make`.

    Raises:
        ValueError: for text that is no number.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"In the name of a decoding {text!r} must be a number.") from None


def count_in_name(text: str) -> int:
    """A whole number in the name of a decoding, see `number_in_name`.

    Raises:
        ValueError: for text that is no whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"In the name of a decoding {text!r} must be a whole number.") from None


register_decoding("greedy", lambda: Decoding.greedy(), "greedy")
register_decoding("beam", lambda width: Decoding.beam(count_in_name(width)), "beam 5")
register_decoding("temperature", lambda value: Decoding.sampling(number_in_name(value)), "temperature 0.7")


def generate_answers(
    decoding: Decoding,
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    tokenizer: PreTrainedTokenizerBase,
    num_return_sequences: int = 1,
    max_new_tokens: int,
    **arguments: Any,
) -> Tensor:
    """Token ids of the answers, as `decoding.generate` returns them, shape `(batch * num_return_sequences, time)`.

    Raises:
        ValueError: if the decoding returns another number of rows.
    """
    ids = decoding.generate(
        model, batch, tokenizer=tokenizer, num_return_sequences=num_return_sequences, max_new_tokens=max_new_tokens,
        **arguments,
    )  # fmt: skip
    queries = len(batch["input_ids"])
    if len(ids) != queries * num_return_sequences:
        raise ValueError(
            f"The decoding `{decoding.name}` returned {len(ids)} answers for {queries} queries with "
            f"{num_return_sequences} each. Its `generate` must return all of them, even if some are empty."
        )
    return ids


@contextmanager
def evaluation_mode(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Evaluation mode without gradients, random numbers from a seed; mode and global random state are restored."""
    training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            model.train(training)


def fitted_queries(
    tokenizer: PreTrainedTokenizerBase, queries: Sequence[str], max_source_length: int | None = None
) -> list[str]:
    """Queries without the oldest of their earlier turns, as many as do not fit; others stay as they are.

    Args:
        tokenizer: its configuration says whether queries hold earlier turns, see `load_pairs`.
        queries: texts.
        max_source_length: longest query, in tokens. By default the tokenizer's own limit.
    """
    history = tokenizer_history(tokenizer) or History()
    return history.fit(queries, max_source_length or tokenizer.model_max_length, token_counts(tokenizer))


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
        queries: texts; surrogates are replaced as by `without_surrogates`.
        decoding: how the answers are generated.
        num_samples: answers per query; more than one for sampling, or up to the width of a beam.
        max_new_tokens: longest answer, in tokens.
        max_source_length: longest query, in tokens; the rest is cut off, earlier turns of a query first, the oldest
            before the others. By default the tokenizer's own limit.
        batch_size: queries at a time.
        seed: of the sampling.

    Returns:
        A list of `num_samples` texts for each query.
    """
    if not queries:
        return []
    queries = fitted_queries(tokenizer, [without_surrogates(query) for query in queries], max_source_length)
    encoded = tokenizer(queries, truncation=True, max_length=max_source_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(queries)), key=lambda index: lengths[index], reverse=True)
    answers: list[list[str]] = [[] for _ in queries]
    with evaluation_mode(model, seed):
        for start in tqdm(range(0, len(order), batch_size), desc=decoding.name, leave=False):
            rows = order[start : start + batch_size]
            features = [{name: encoded[name][row] for name in ("input_ids", "attention_mask")} for row in rows]
            batch = tokenizer.pad(features, return_tensors="pt").to(model.device)
            generated = generate_answers(
                decoding, model, batch, tokenizer=tokenizer, num_return_sequences=num_samples,
                max_new_tokens=max_new_tokens,
            )  # fmt: skip
            texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
            for position, row in enumerate(rows):
                samples = texts[position * num_samples : (position + 1) * num_samples]
                answers[row] = [text.strip() for text in samples]
    return answers


def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    decodings: Sequence[Decoding],
    *,
    num_samples: int = 1,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
) -> tuple[dict[str, list[list[str]]], dict[str, float]]:
    """Answers each query under each decoding.

    Args:
        decodings: with different names.
        num_samples: answers per query of a sampling decoding; a search gives one.
        model, tokenizer, queries, max_new_tokens, max_source_length, batch_size, seed: see `answer_queries`.

    Returns:
        The answers and the seconds they took, both by the name of the decoding.

    Raises:
        ValueError: without a query, or for two decodings of one name.
    """
    if not queries:
        raise ValueError("There is no query to answer: the split is empty.")
    names = [decoding.name for decoding in decodings]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"Two decodings are called `{repeated[0]}`, and the answers of one would replace the other's. Give each a "
            "name of its own."
        )
    answers, seconds = {}, {}
    for decoding in decodings:
        started = time.perf_counter()
        answers[decoding.name] = answer_queries(
            model, tokenizer, queries, decoding, num_samples=num_samples if decoding.temperature is not None else 1,
            max_new_tokens=max_new_tokens, max_source_length=max_source_length, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        seconds[decoding.name] = time.perf_counter() - started
    return answers, seconds
