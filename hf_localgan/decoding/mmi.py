"""Maximum mutual information, MMI (Li et al. 2016): antiLM in the search, bidi over candidates.

The equations are in `functional/mutual_information.py`. Both need no training of the generator that answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_localgan.data.padding import PADDING, pad_ids
from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.decoding.answers import Decoding, count_in_name, number_in_name, register_decoding
from hf_localgan.decoding.candidates import Candidates
from hf_localgan.decoding.likelihood import (
    DecoderOnly,
    EmptySource,
    LanguageModel,
    contents,
    frame_of,
    language_model_log_probs,
    language_model_of,
    response_log_probs,
)
from hf_localgan.decoding.reranking import Reranker, forward_parts, moved_to
from hf_localgan.decoding.special_tokens import end_tokens, single_token
from hf_localgan.functional.mutual_information import (
    NORMALISATIONS,
    anti_lm_scores,
    anti_lm_step,
    bidirectional_scores,
    check_mmi,
    check_weight,
)
from hf_localgan.models.loading import load_generator
from hf_localgan.models.reading import load_whole


class AntiLmProcessor(LogitsProcessor):
    """Scores of the next token by `log p(. | q, y_<k) - lambda 1(k <= gamma) log u(. | y_<k) + mu`, for `generate`.

    `u` reads the whole prefix, without a cache, in the first `gamma` steps alone, so that beams may change places and
    any generator can be used. Search with `length_penalty=0.0`, for `mu` is the length reward, and with
    `early_stopping="never"`.

    Args:
        language_model: from decoder ids, shape `(rows, time)`, to logits of the next token, `(rows, vocab)`; see
            `decoding.likelihood.language_model_of`.
        penalty: lambda, at least 0.
        steps: gamma, the number of tokens that are penalised; `None` for all.
        length_reward: mu, nats per token.
        prompt_length: number of tokens in the decoder before the response: the start token.
        last_step: largest number of tokens of a response. There only `end_tokens` may follow, at their score, so that
            no response is cut: without the cost of its end it would win.
        end_tokens: ids of the end tokens, needed with `last_step`.

    Raises:
        ValueError: for numbers that are not accepted, and for `last_step` without end tokens.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        penalty: float,
        steps: int | None = None,
        length_reward: float = 0.0,
        *,
        prompt_length: int = 1,
        last_step: int | None = None,
        end_tokens: list[int] | None = None,
    ):
        check_mmi(penalty, steps, length_reward)
        if last_step is not None and not end_tokens:
            raise ValueError("`last_step` needs `end_tokens`, the ids that may follow there.")
        self.language_model = language_model
        self.penalty, self.steps, self.length_reward = penalty, steps, length_reward
        self.prompt_length, self.last_step, self.end_tokens = prompt_length, last_step, end_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt_length + 1  # of the next token, counted from 1
        is_penalised = self.penalty and (self.steps is None or step <= self.steps)
        other = self.language_model(input_ids).to(scores) if is_penalised else None
        scores = anti_lm_step(scores, other, self.penalty, self.length_reward)
        if step == self.last_step:
            ending = torch.full_like(scores, float("-inf"))
            ending[:, self.end_tokens] = scores[:, self.end_tokens]
            # Where another processor forbids the end, the response is cut after all.
            scores = torch.where(ending.isneginf().all(dim=1, keepdim=True), scores, ending)
        return scores


@dataclass(frozen=True)
class AntiLm(Decoding):
    """Searches for the response with the best antiLM score, MMI-antiLM of Li et al. 2016.

    With penalty and length reward 0 it is a plain beam search whose hypotheses all end. A beam search stops when no
    open hypothesis has a better score than the worst finished one. As scores may rise here with every token, it may
    stop too early: widen the beam.

    Attributes:
        penalty: lambda.
        steps: gamma, in tokens; `None` for all.
        length_reward: mu, nats per token.
        beams: number of hypotheses; 1 is greedy.
        language_model: a model over the generator's ids, or the folder or Hub id of an encoder-decoder with the same
            tokenizer, which reads an empty source; by default the generator itself.

    Raises:
        ValueError: for numbers that are not accepted.
    """

    name: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    penalty: float = 0.5
    steps: int | None = 3
    length_reward: float = 0.0
    beams: int = 5
    language_model: PreTrainedModel | str | None = field(default=None, compare=False)
    _loaded: dict[str, PreTrainedModel] = field(default_factory=dict, repr=False, compare=False, hash=False)

    # In the order in which they are varied. All 65 points were tried on DailyDialog++ with two seeds: begun with the
    # length reward the climb ends at the best of them from each of four starts, after 11 to 21; begun with the penalty
    # it ends at `steps=None`, short answers without a reward, from three of the eight.
    grid: ClassVar[Mapping[str, tuple]] = {
        "length_reward": (0.0, 0.5, 1.0, 1.5, 2.0), "steps": (1, 3, 8, None), "penalty": (0.0, 0.3, 0.5, 0.7),
    }  # fmt: skip

    def __post_init__(self):
        check_mmi(self.penalty, self.steps, self.length_reward)
        if self.beams < 1:
            raise ValueError(f"`beams` must be at least 1, got {self.beams}.")
        search: dict[str, Any] = {} if self.beams == 1 else {"length_penalty": 0.0, "early_stopping": "never"}
        object.__setattr__(self, "arguments", {"do_sample": False, "num_beams": self.beams, **search})
        if not self.name:
            steps = "all" if self.steps is None else self.steps
            place = f" {self.language_model}" if isinstance(self.language_model, str) else ""
            beams = f" {self.beams}" if place or self.beams != _default(self, "beams") else ""
            object.__setattr__(self, "name", f"antilm {self.penalty:g} {steps} {self.length_reward:g}{beams}{place}")

    def settings(self) -> dict[str, Any]:
        other = getattr(self.language_model, "name_or_path", self.language_model)
        own = {"penalty": self.penalty, "steps": self.steps, "length_reward": self.length_reward}
        return {**self.arguments, "decoding": "antilm", **own, "language_model": other}

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
        prompt = arguments.get("decoder_input_ids")
        ends = end_tokens(model)
        processor = AntiLmProcessor(
            _language_model(self.language_model, model, tokenizer, self._loaded), self.penalty, self.steps,
            self.length_reward, prompt_length=1 if prompt is None else prompt.shape[1], last_step=max_new_tokens,
            end_tokens=ends,
        )  # fmt: skip
        processors = LogitsProcessorList([*(arguments.pop("logits_processor", None) or []), processor])
        # All hypotheses are returned, so that finished ones can replace cut ones. BART's own settings force an end at
        # no cost, with which cut ones would win, too.
        search = {**arguments, **self.arguments, "num_return_sequences": self.beams, "forced_eos_token_id": None}
        ids: Tensor = model.generate(  # type: ignore[operator]  # not declared by `PreTrainedModel`
            **batch, **search, max_new_tokens=max_new_tokens, logits_processor=processors
        )
        return _ended_first(ids.view(len(batch["input_ids"]), self.beams, -1), ends, num_return_sequences, model)


def _language_model(
    given: PreTrainedModel | str | None,
    generator: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    loaded: dict,
) -> EmptySource | DecoderOnly:
    """The given model as a language model; by default the generator's own decoder. A folder is loaded once."""
    if given is None:
        return language_model_of(generator)
    if isinstance(given, str) and given not in loaded:
        loaded[given] = load_with_tokenizer(given, tokenizer, "language model", "on the same responses")
    model = loaded[given] if isinstance(given, str) else given
    return language_model_of(moved_to(model, generator.device))


def load_with_tokenizer(place: str, tokenizer: PreTrainedTokenizerBase, role: str, data: str) -> PreTrainedModel:
    """An encoder-decoder that reads the generator's own token ids.

    Args:
        place: folder or Hub id.
        tokenizer: the generator's.
        role: of the model, for the error.
        data: what it is to be trained on, for the error.

    Raises:
        ValueError: if it was made with another tokenizer.
    """
    model, own = load_generator(place)
    if vocabulary_fingerprint(own) != vocabulary_fingerprint(tokenizer):
        raise ValueError(
            f"The {role} `{place}` has another tokenizer than the generator. Train it with the same tokenizer "
            f"(`--tokenizer`, or `--generator` to go on from the generator itself), {data}."
        )
    return model


def _default(decoding: Decoding, name: str) -> Any:
    return next(entry.default for entry in fields(decoding) if entry.name == name)


def _ended_first(ids: Tensor, ends: list[int], number: int, model: nn.Module) -> Tensor:
    """`number` rows of each query: those with an end token in their order, or all where none has one.

    Args:
        ids: shape `(batch, beams, time)`.

    Returns:
        Shape `(batch * number, time)`, padding behind the end.
    """
    is_end = torch.isin(ids, torch.tensor(ends, device=ids.device))
    is_end[:, :, 0] = False  # the start token, which is the end token in some families
    rows = []
    for query, ended in enumerate(is_end.any(dim=2).tolist()):
        kept = [beam for beam, has_end in enumerate(ended) if has_end] or list(range(len(ended)))
        rows += [query * ids.shape[1] + kept[place % len(kept)] for place in range(number)]
    behind = is_end.long().cumsum(dim=2) - is_end.long() > 0
    pad = single_token(model, "pad_token_id")
    return ids.masked_fill(behind, ends[0] if pad is None else pad).flatten(0, 1)[rows]


@dataclass(frozen=True)
class AntiLmReranker(Reranker):
    """Answers with the candidate of the best antiLM score; `search` uses the same score in a beam search.

    With its table of candidates `penalty`, `steps` and `length_reward` are tuned without decoding again. Numbers that
    are best for candidates need not be best for a search, which also finds what no candidate is.

    Attributes:
        penalty, steps, length_reward, language_model: as in `AntiLm`.
    """

    penalty: float = 0.5
    steps: int | None = 3
    length_reward: float = 0.0
    language_model: PreTrainedModel | str | None = field(default=None, compare=False)

    title: ClassVar[str] = "rerank antilm"
    grid: ClassVar[Mapping[str, tuple]] = {
        "penalty": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7), "steps": (1, 2, 3, 5, None),
        "length_reward": (0.0, 0.25, 0.5, 1.0),
    }  # fmt: skip

    def __post_init__(self):
        check_mmi(self.penalty, self.steps, self.length_reward)
        super().__post_init__()

    def search(self, beams: int = 5) -> AntiLm:
        """The beam search with these settings."""
        return AntiLm(
            penalty=self.penalty, steps=self.steps, length_reward=self.length_reward, beams=beams,
            language_model=self.language_model,
        )  # fmt: skip

    def parts(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:
        language_model = _language_model(self.language_model, model, tokenizer, self._loaded)
        return {
            "log_probs": response_log_probs(model, batch, candidates.labels, candidates.groups),
            "language_model": language_model_log_probs(model, language_model, candidates.labels),
            "length": candidates.lengths,
        }

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        places = torch.arange(parts["log_probs"].shape[1], device=parts["log_probs"].device)
        mask = places < parts["length"][:, None]
        return anti_lm_scores(
            parts["log_probs"], parts["language_model"].to(parts["log_probs"]), mask, self.penalty, self.steps,
            self.length_reward,
        )  # fmt: skip


@dataclass(frozen=True)
class MutualInformationReranker(Reranker):
    """Answers with the candidate that is likely and predicts the query best, MMI-bidi of Li et al. 2016.

    The score is `(1 - weight) log p(y | q) + weight log p(q | y) + length_reward |y|`. The backward generator alone
    (`weight=1`) prefers endless repetition, so the default keeps the forward term.

    Attributes:
        backward: an encoder-decoder trained on swapped pairs with the same tokenizer, or its folder or Hub id. By
            default the model in `backward/` of the generator's folder.
        weight: lambda, 0 to 1.
        length_reward: mu, nats per token.
        normalise: "sum", or "token" for means per token.

    Raises:
        ValueError: for settings that are not accepted.
    """

    backward: PreTrainedModel | str | None = field(default=None, compare=False)
    weight: float = 0.5
    length_reward: float = 0.0
    normalise: str = "token"

    title: ClassVar[str] = "bidi"
    grid: ClassVar[Mapping[str, tuple]] = {
        # Samples differ from beams by far more under the generator than under the backward model: near 1 it is decided.
        "weight": (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 1.0), "length_reward": (0.0, 0.05, 0.1, 0.25, 0.5),
        "normalise": NORMALISATIONS,
    }  # fmt: skip

    def __post_init__(self):
        check_weight(self.weight)
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f'`normalise` must be "sum" or "token", got "{self.normalise}".')
        check_mmi(0.0, None, self.length_reward)
        super().__post_init__()

    def short_name(self) -> tuple[str, set[str]]:
        place = f" {self.backward}" if isinstance(self.backward, str) else ""
        return f"bidi {self.weight:g}{place}", {"weight", "backward"}

    def parts(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:
        backward = self.companion(self.backward, model, "backward", lambda place: self._load(place, tokenizer))
        queries = contents(batch["input_ids"], tokenizer, model, batch.get("attention_mask"))
        responses = contents(candidates.labels, tokenizer, model)
        device, source, target = candidates.labels.device, frame_of(tokenizer), frame_of(tokenizer, "target")
        pad = single_token(backward, "pad_token_id")
        rows = [source.around(response) for response in responses]
        sources = {
            "input_ids": pad_ids(rows, 0 if pad is None else pad).to(device),
            "attention_mask": (pad_ids(rows) != PADDING).long().to(device),
        }
        labels = pad_ids([target.around(query) for query in queries]).to(device)[candidates.groups]
        return {
            **forward_parts(model, batch, candidates),
            "backward": response_log_probs(backward, sources, labels).sum(dim=1),
            "query_length": (labels != PADDING).sum(dim=1),
        }

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        backward = parts["backward"].to(parts["forward"])
        return bidirectional_scores(
            parts["forward"], backward, parts["length"], parts["query_length"], self.weight, self.length_reward,
            self.normalise,
        )  # fmt: skip

    def _load(self, place: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        if self.backward is None:
            return load_whole(AutoModelForSeq2SeqLM, place, "backward")
        return load_with_tokenizer(place, tokenizer, "backward generator", "on pairs whose sides are swapped")


def _anti_lm(
    penalty: str, steps: str = "3", length_reward: str = "0", beams: str = "5", language_model: str | None = None
) -> AntiLm:
    return AntiLm(
        penalty=number_in_name(penalty), steps=None if steps == "all" else count_in_name(steps),
        length_reward=number_in_name(length_reward), beams=count_in_name(beams), language_model=language_model,
    )  # fmt: skip


def _bidi(weight: str = "0.5", backward: str | None = None) -> MutualInformationReranker:
    return MutualInformationReranker(weight=number_in_name(weight), backward=backward)


register_decoding("antilm", _anti_lm, "antilm 0.5 3 0.1")
register_decoding("bidi", _bidi, "bidi 0.5")
