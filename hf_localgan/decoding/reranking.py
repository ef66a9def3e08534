"""Answers chosen among many candidates: by the energy, by the discriminator, or by any score of a subclass.

Candidates are beams and samples together: beams are likely and alike, samples differ. All of them are generations of
the generator, so that a re-ranker only chooses among them, and trains nothing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.padding import PADDING, pad_ids
from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.decoding.answers import Decoding, number_in_name, register_decoding
from hf_localgan.decoding.candidates import Candidates, draw_candidates
from hf_localgan.decoding.likelihood import response_log_probs
from hf_localgan.decoding.special_tokens import end_tokens, single_token
from hf_localgan.functional.mutual_information import best_rows, check_weight
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.reading import load_whole

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
HALF = 0.5  # the other half is the generator's own score, for the other models accept broken sentences
ENERGY_SCORES = ("difference", "radius", "free_energy")


@dataclass(frozen=True)
class Reranker(Decoding):
    """Draws candidates, and answers with those of the largest score, which a subclass defines.

    A subclass gives `parts`, numbers of each candidate that cost a model's pass, and `combine`, the score that it makes
    of these numbers and its own settings. So the settings can be tuned from stored parts (`tabulate_candidates`,
    `tune_reranker`).

    Candidates without an end token are chosen only where a query has no other. If there are fewer different candidates
    than answers, the best ones are repeated.

    Attributes:
        beams, samples: numbers of candidates, see `draw_candidates`.

    Raises:
        ValueError: for negative numbers, and if both are 0.
    """

    name: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    beams: int = 20
    samples: int = 30
    _loaded: dict[tuple, nn.Module] = field(default_factory=dict, repr=False, compare=False, hash=False)

    title: ClassVar[str] = "rerank"

    def __post_init__(self):
        if min(self.beams, self.samples) < 0 or self.beams + self.samples < 1:
            raise ValueError(
                f"`beams` and `samples` must be at least 0 and one of them more, got {self.beams} and {self.samples}."
            )
        # The search behind the candidates; files and plots of evaluations read these two names.
        object.__setattr__(self, "arguments", {"do_sample": False, "num_beams": max(1, self.beams)})
        if not self.name:
            object.__setattr__(self, "name", self.default_name())

    def default_name(self) -> str:
        """A name for tables: that of the command line, and the changed settings that it does not hold."""
        head, included = self.short_name()
        changed = []
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in SHARED_FIELDS or entry.name in included or value == entry.default:
                continue
            text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, (int, float)) else None
            changed += [] if text is None else [f"{entry.name} {text}"]
        return ", ".join([head, *changed])

    def short_name(self) -> tuple[str, set[str]]:
        """The name that `Decoding.parse` reads, and the names of the settings that it holds."""
        return self.title, set()

    @property
    def most_answers(self) -> int | None:
        return self.beams + self.samples

    def settings(self) -> dict[str, Any]:
        """All settings; models by the folder or Hub id that they were loaded from."""
        settings = {**self.arguments, "decoding": self.title}
        for entry in fields(self):
            if entry.name in SHARED_FIELDS:
                continue
            value = getattr(self, entry.name)
            settings[entry.name] = getattr(value, "name_or_path", None) if isinstance(value, nn.Module) else value
        return settings

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
        batch = {name: batch[name] for name in ("input_ids", "attention_mask") if batch.get(name) is not None}
        candidates = draw_candidates(
            model, batch, beams=self.beams, samples=self.samples, max_new_tokens=max_new_tokens, **arguments
        )
        scores = self.combine(self.parts(model, batch, tokenizer, candidates))
        ranked = best_rows(scores, candidates.groups, candidates.finished)
        chosen = []
        for query in range(len(batch["input_ids"])):
            rows = ranked[candidates.groups[ranked] == query].tolist()
            ended = [row for row in rows if candidates.finished[row]] or rows
            chosen += [ended[place % len(ended)] for place in range(num_return_sequences)]
        return _as_generated(model, candidates.labels[chosen])

    def parts(
        self, model: PreTrainedModel, batch: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Numbers of the candidates by name, each of shape `(candidates,)` or `(candidates, time)`.

        They do not depend on the settings that a tuning may change.
        """
        raise NotImplementedError

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Scores of the candidates, shape `(candidates,)`; larger is better, NaN is worst."""
        raise NotImplementedError

    def companion(self, given: Any, model: PreTrainedModel, subfolder: str, load: Callable[[str], nn.Module]) -> Any:
        """The model that stands beside the generator, on the generator's device; it is loaded once.

        Args:
            given: the model, its folder or Hub id; by default the one in the generator's folder.
            model: the generator.
            subfolder: name of its folder in the generator's folder.
            load: loads it from a folder or Hub id, that of the generator where none was given.

        Raises:
            ValueError: if none was given and the generator's folder has none.
        """
        if given is None or isinstance(given, (str, os.PathLike)):
            place = str(model.name_or_path) if given is None else os.fspath(given)
            key = (place, subfolder, given is None)
            if key not in self._loaded:
                if given is None and (not place or Path(place).is_dir() and not (Path(place) / subfolder).is_dir()):
                    raise ValueError(
                        f"The decoding `{self.name}` needs a model beside the generator. `{place or 'the model'}` has "
                        f"no folder `{subfolder}`: give it by `{subfolder}=`, or take a checkpoint that has one."
                    )
                self._loaded[key] = load(place)
            given = self._loaded[key]
        return moved_to(given, model.device)

    def reader_of_tokens(
        self, given: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, cls: Any
    ) -> Any:
        """The energy or discriminator beside the generator; it reads the generator's own token ids.

        Args:
            given, model: see `companion`.
            tokenizer: the generator's.
            name: of its folder in the generator's folder.
            cls: its class.

        Raises:
            ValueError: if there is none, and if it was made with another tokenizer.
        """
        reader = self.companion(given, model, name, lambda place: load_whole(cls, place, name))
        rows = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
        check_same_vocabulary(name, reader.config, rows, tokenizer)
        return reader


SHARED_FIELDS = {entry.name for entry in fields(Decoding)} | {"_loaded"}


def moved_to(model: nn.Module, device: torch.device) -> Any:
    """The model on a device, in evaluation mode."""
    return model.to(device).eval()


def _as_generated(model: nn.Module, labels: Tensor) -> Tensor:
    """Labels as `generate` returns them: behind the start token, padding behind the end."""
    start, pad = single_token(model, "decoder_start_token_id", "bos_token_id"), single_token(model, "pad_token_id")
    fill = end_tokens(model)[0] if pad is None else pad
    return nn.functional.pad(labels.masked_fill(labels == PADDING, fill), (1, 0), value=start)


def forward_parts(model: PreTrainedModel, batch: Mapping[str, Tensor], candidates: Candidates) -> dict[str, Tensor]:
    """`forward`, log p(y | q) of each candidate in nats, and `length`, its tokens; shape `(candidates,)` of each."""
    log_probs = response_log_probs(model, batch, candidates.labels, candidates.groups)
    return {"forward": log_probs.sum(dim=1), "length": candidates.lengths}


def _mixed(forward: Tensor, lengths: Tensor, companion: Tensor, weight: float) -> Tensor:
    """`(1 - weight) log p(y | q) / |y| + weight * companion`."""
    return companion if weight == 1 else (1 - weight) * forward / lengths.clamp(min=1) + weight * companion


def _within(labels: Tensor, vocab_size: int) -> Tensor:
    """Labels without tokens that a companion does not have: T5 has more logits than its tokenizer has tokens."""
    return labels.masked_fill(labels >= vocab_size, PADDING)


@dataclass(frozen=True)
class EnergyReranker(Reranker):
    """Answers with the candidate that the energy of a LocalGAN checkpoint prefers.

    The score is `(1 - weight) log p(y | q) / |y| + weight * e(q, y)`, with `e` in nats

    * "difference": `F(bq, y) - F(q, y)`, how much likelier the response is because of this query. Up to a constant of
      the query it is `ln p(y | q) - ln p(y)` under the energy: mutual information as in MMI.
    * "radius": `-|F(q, y) - F(q, rc) - target|`. Responses near the centre are the safe ones, so the target should be
      the references' radius (`reference_radius`); without a target the nearest to the centre wins.
    * "free_energy": `-F(q, y)`, high also for responses that are common after any query.

    Candidates without a word that the energy knows come last.

    Attributes:
        energy: with word vectors; by default the model in `energy/` of the generator's folder.
        by: "difference", "radius" or "free_energy".
        target: wanted radius in nats, for "radius".
        weight: 0 to 1.

    Raises:
        ValueError: for settings that are not accepted.
    """

    energy: DbmModel | None = field(default=None, compare=False)
    by: str = "difference"
    target: float | None = None
    weight: float = HALF

    title: ClassVar[str] = "rerank energy"
    grid: ClassVar[Mapping[str, tuple]] = {"weight": SHARES}

    def __post_init__(self):
        if self.by not in ENERGY_SCORES:
            raise ValueError(f"`by` must be one of {', '.join(ENERGY_SCORES)}, got {self.by!r}.")
        if self.target is not None and self.by != "radius":
            raise ValueError(f'`target` is a radius: it needs `by="radius"`, got `by="{self.by}"`.')
        check_weight(self.weight)
        super().__post_init__()

    def short_name(self) -> tuple[str, set[str]]:
        if self.by == "radius" and self.target is not None:
            return f"rerank radius {self.target:g}", {"by", "target"}
        if self.by == "radius":
            return "rerank radius", {"by"}
        value = "" if self.weight == HALF or self.by != "difference" else f" {self.weight:g}"
        return f"rerank energy{value}", {"weight"} if value else set()

    def parts(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:
        energy = self.reader_of_tokens(self.energy, model, tokenizer, "energy", DbmModel)
        labels, groups = _within(candidates.labels, energy.config.vocab_size), candidates.groups
        with torch.no_grad():
            query = energy.query_features(batch["input_ids"], batch.get("attention_mask"))
            response, known = energy.response_features(labels), energy.word_vectors(labels)[1]
            free = energy.free_energy(query[groups], response)
            bias = energy.visible_bias[: energy.config.query_size].to(query)
            alone = energy.free_energy(bias.expand(len(response), -1), response)
            center = energy.free_energy(query, energy.center(query))[groups]
        scores = {
            name: value.masked_fill(~known, float("nan"))
            for name, value in (("free_energy", free), ("difference", free - alone), ("radius", free - center))
        }
        return {**forward_parts(model, batch, candidates), **scores}

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        value = parts[self.by]
        if self.by == "radius" and self.target is not None:
            value = (value - self.target).abs()
        return _mixed(parts["forward"], parts["length"], -value.to(parts["forward"]), self.weight)


@torch.no_grad()
def reference_radius(
    energy: DbmModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    references: Sequence[str],
    batch_size: int = 256,
) -> float:
    """Mean radius of references, nats, for the `target` of `EnergyReranker`.

    Args:
        energy: a trained `DbmModel` with word vectors.
        tokenizer: the one it was trained with.
        queries, references: texts, one reference for each query, of the training or validation split.
        batch_size: pairs at a time.

    Raises:
        ValueError: without a pair, and for lists of different lengths.
    """
    if not queries or len(queries) != len(references):
        raise ValueError(
            f"There must be a reference for each query, got {len(references)} references and {len(queries)} queries."
        )
    total = 0.0
    for start in range(0, len(queries), batch_size):
        part = slice(start, start + batch_size)
        ids = tokenizer(list(queries[part]), padding=True, return_tensors="pt", verbose=False).to(energy.device)
        labels = pad_ids(tokenizer(text_target=list(references[part]), verbose=False).input_ids).to(energy.device)
        query = energy.query_features(ids["input_ids"], ids["attention_mask"])
        total += energy.radius(query, energy.response_features(labels)).double().sum().item()
    return total / len(queries)


@dataclass(frozen=True)
class DiscriminatorReranker(Reranker):
    """Answers with the candidate that the discriminator scores highest.

    The score is `(1 - weight) log p(y | q) / |y| + weight * s`, `s` the discriminator's logit in nats, or its cosine
    with the head "cosine".

    Attributes:
        discriminator: by default the model in `discriminator/` of the generator's folder.
        weight: 0 to 1.

    Raises:
        ValueError: for a weight that is not accepted.
    """

    discriminator: PairDiscriminator | None = field(default=None, compare=False)
    weight: float = HALF

    title: ClassVar[str] = "rerank discriminator"
    grid: ClassVar[Mapping[str, tuple]] = {"weight": SHARES}

    def __post_init__(self):
        check_weight(self.weight)
        super().__post_init__()

    def short_name(self) -> tuple[str, set[str]]:
        return "rerank discriminator" + ("" if self.weight == HALF else f" {self.weight:g}"), {"weight"}

    def parts(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:
        discriminator = self.reader_of_tokens(self.discriminator, model, tokenizer, "discriminator", PairDiscriminator)
        labels = _within(candidates.labels, discriminator.config.vocab_size)
        with torch.no_grad():
            query = discriminator.query_features(batch["input_ids"], batch.get("attention_mask"))
            logits = discriminator.score(query[candidates.groups], discriminator.response_features(labels))
        return {**forward_parts(model, batch, candidates), "logit": logits.float()}

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        return _mixed(parts["forward"], parts["length"], parts["logit"].to(parts["forward"]), self.weight)


def _rerank(model: str, value: str | None = None) -> Reranker:
    """The decoding of a name: `rerank energy`, `rerank radius 40`, `rerank discriminator`."""
    if model == "radius":
        return EnergyReranker(by="radius", target=None if value is None else number_in_name(value))
    weight = HALF if value is None else number_in_name(value)
    if model == "energy":
        return EnergyReranker(weight=weight)
    if model == "discriminator":
        return DiscriminatorReranker(weight=weight)
    raise ValueError(f"The word after `rerank` must be `energy`, `radius` or `discriminator`, got {model!r}.")


register_decoding("rerank", _rerank, "rerank energy")
