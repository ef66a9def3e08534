"""Answers chosen among many candidates: by the energy, by the discriminator, or by any score of a subclass.

Candidates are beams and samples together: beams are likely and alike, samples differ. Whatever is chosen was said by
the generator itself, so that this changes which of its answers is heard, and trains nothing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.decoding.answers import Decoding, number_in_name, register_decoding
from hf_localgan.decoding.candidates import Candidates, draw_candidates
from hf_localgan.decoding.likelihood import PADDING, response_log_probs
from hf_localgan.decoding.special_tokens import end_tokens, special_token
from hf_localgan.functional.mutual_information import best_rows
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator

HALF = 0.5  # the other half of a score is the generator's own: the other models do not mind broken sentences
ENERGY_SCORES = ("difference", "radius", "free_energy")


@dataclass(frozen=True)
class Reranker(Decoding):
    """Draws candidates, and answers with those of the largest score; a subclass says what that is.

    A subclass gives `parts`, numbers of each candidate that cost a model's pass, and `combine`, the score that is made
    of them and of its own settings. So the settings can be tuned from stored parts (`tabulate_candidates`,
    `tune_reranker`).

    Candidates without an end token are heard only where no other is left. Where more answers are asked for than there
    are different candidates, they come again from the best on.

    Attributes:
        beams, samples: candidates, see `draw_candidates`.
    """

    name: str = ""
    arguments: dict = field(default_factory=dict, hash=False)
    beams: int = 20
    samples: int = 30
    _loaded: dict = field(default_factory=dict, repr=False, compare=False, hash=False)

    title: ClassVar[str] = "rerank"

    def __post_init__(self):
        if min(self.beams, self.samples) < 0 or self.beams + self.samples < 1:
            raise ValueError(
                f"`beams` and `samples` must be at least 0 and one of them more, got {self.beams} and {self.samples}."
            )
        # The search behind the candidates; an evaluation's files and plots ask for these two names.
        object.__setattr__(self, "arguments", {"do_sample": False, "num_beams": max(1, self.beams)})
        if not self.name:
            object.__setattr__(self, "name", self.default_name())

    def default_name(self) -> str:
        """A name for tables: that of the command line, and the settings that this one cannot say."""
        head, said = self.short_name()
        changed = []
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in OF_EVERY_DECODING or entry.name in said or value == entry.default:
                continue
            shown = value if isinstance(value, str) else f"{value:g}" if isinstance(value, (int, float)) else None
            changed += [] if shown is None else [f"{entry.name} {shown}"]
        return ", ".join([head, *changed])

    def short_name(self) -> tuple[str, set[str]]:
        """What `Decoding.parse` reads, and the settings that it says."""
        return self.title, set()

    @property
    def most_answers(self) -> int | None:
        return self.beams + self.samples

    def settings(self) -> dict[str, Any]:
        """The numbers and names of this decoding, and of models the place they came from."""
        told = {**self.arguments, "decoding": self.title}
        for entry in fields(self):
            if entry.name in OF_EVERY_DECODING:
                continue
            value = getattr(self, entry.name)
            told[entry.name] = getattr(value, "name_or_path", None) if isinstance(value, nn.Module) else value
        return told

    def generate(
        self, model, batch, *, tokenizer, num_return_sequences: int = 1, max_new_tokens: int, **more
    ) -> Tensor:
        batch = {name: batch[name] for name in ("input_ids", "attention_mask") if batch.get(name) is not None}
        candidates = draw_candidates(
            model, batch, beams=self.beams, samples=self.samples, max_new_tokens=max_new_tokens, **more
        )
        scores = self.combine(self.parts(model, batch, tokenizer, candidates))
        ranked = best_rows(scores, candidates.groups, candidates.finished)
        chosen = []
        for query in range(len(batch["input_ids"])):
            of_query = ranked[candidates.groups[ranked] == query].tolist()
            ended = [row for row in of_query if candidates.finished[row]] or of_query
            chosen += [ended[place % len(ended)] for place in range(num_return_sequences)]
        return _as_generated(model, candidates.labels[chosen])

    def parts(
        self, model: PreTrainedModel, batch: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Named numbers of the candidates, each of shape `(candidates,)` or `(candidates, time)`.

        The settings that a tuning may change have no part in them.
        """
        raise NotImplementedError

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Scores, the larger the better, shape `(candidates,)`; NaN comes last."""
        raise NotImplementedError

    def companion(self, given: Any, model: PreTrainedModel, subfolder: str, load: Callable[[str], nn.Module]):
        """The model that stands beside the generator: the one that was given, or what the generator's own folder has.

        It is loaded once, and moved to the generator's device.

        Raises:
            ValueError: if none was given and the generator's folder has none.
        """
        if given is None or isinstance(given, (str, os.PathLike)):
            place = model.name_or_path if given is None else os.fspath(given)
            key = (place, subfolder, given is None)
            if key not in self._loaded:
                if given is None and (not place or Path(place).is_dir() and not (Path(place) / subfolder).is_dir()):
                    raise ValueError(
                        f"The decoding `{self.name}` needs a model beside the generator. `{place or 'the model'}` has "
                        f"no folder `{subfolder}`: give it by `{subfolder}=`, or take a checkpoint that has one."
                    )
                self._loaded[key] = load(place)
            given = self._loaded[key]
        return given.to(model.device).eval()


OF_EVERY_DECODING = {entry.name for entry in fields(Decoding)} | {"_loaded"}


def _as_generated(model: nn.Module, labels: Tensor) -> Tensor:
    """Labels as `generate` returns them: behind the start token, padding behind the end."""
    start, pad = special_token(model, "decoder_start_token_id"), special_token(model, "pad_token_id")
    start = special_token(model, "bos_token_id") if start is None else start
    fill = end_tokens(model)[0] if pad is None else pad
    return nn.functional.pad(labels.masked_fill(labels == PADDING, fill), (1, 0), value=start)


def _mixed(forward: Tensor, lengths: Tensor, companion: Tensor, weight: float) -> Tensor:
    """`(1 - weight) log p(y | q) / |y| + weight * companion`."""
    return companion if weight == 1 else (1 - weight) * forward / lengths.clamp(min=1) + weight * companion


def _check_weight(weight: float):
    if not 0 <= weight <= 1:
        raise ValueError(f"`weight` must be from 0 (the generator alone) to 1 (the other model alone), got {weight}.")


def _within(labels: Tensor, vocab_size: int) -> Tensor:
    """Without tokens that a companion does not have: T5 has more logits than its tokenizer has tokens."""
    return labels.masked_fill(labels >= vocab_size, PADDING)


@dataclass(frozen=True)
class EnergyReranker(Reranker):
    """Answers with the candidate that the energy of a LocalGAN checkpoint prefers.

    The score is `(1 - weight) log p(y | q) / |y| + weight * e(q, y)`, with `e` in nats

    * "difference": `F(bq, y) - F(q, y)`, how much likelier the response is because of this query. Up to a constant of
      the query it is `ln p(y | q) - ln p(y)` under the energy: mutual information as in MMI.
    * "radius": `-|F(q, y) - F(q, rc) - target|`. Responses near the centre are the safe ones, so the target should be
      the radius that references have (`reference_radius`); without one the nearest to the centre wins.
    * "free_energy": `-F(q, y)`, high also for what is common after any query.

    Candidates without a word that the energy knows come last.

    Attributes:
        energy: a `DbmModel` with word vectors; by default what stands in `energy/` of the generator's folder.
        by: one of the three.
        target: nats, for "radius".
        weight: 0 to 1.
    """

    energy: DbmModel | None = field(default=None, compare=False)
    by: str = "difference"
    target: float | None = None
    weight: float = HALF

    title: ClassVar[str] = "rerank energy"

    def __post_init__(self):
        if self.by not in ENERGY_SCORES:
            raise ValueError(f"`by` must be one of {', '.join(ENERGY_SCORES)}, got {self.by!r}.")
        if self.target is not None and self.by != "radius":
            raise ValueError(f'`target` is a radius: it needs `by="radius"`, got `by="{self.by}"`.')
        _check_weight(self.weight)
        super().__post_init__()

    def short_name(self):
        if self.by == "radius" and self.target is not None:
            return f"rerank radius {self.target:g}", {"by", "target"}
        if self.by == "radius":
            return "rerank radius", {"by"}
        value = "" if self.weight == HALF or self.by != "difference" else f" {self.weight:g}"
        return f"rerank energy{value}", {"weight"} if value else set()

    def parts(self, model, batch, tokenizer, candidates):
        energy = self.companion(
            self.energy, model, "energy",
            lambda place: DbmModel.from_pretrained(place, subfolder="energy", use_safetensors=True),
        )  # fmt: skip
        check_same_vocabulary("energy", energy.config, model.get_input_embeddings().num_embeddings, tokenizer)
        labels, groups = _within(candidates.labels, energy.config.vocab_size), candidates.groups
        with torch.no_grad():
            query = energy.query_features(batch["input_ids"], batch.get("attention_mask"))
            response, known = energy.response_features(labels), energy.word_vectors(labels)[1]
            free = energy.free_energy(query[groups], response)
            bias = energy.visible_bias[: energy.config.query_size].to(query)
            alone = energy.free_energy(bias.expand(len(response), -1), response)
            center = energy.free_energy(query, energy.center(query))[groups]
        unknown = {
            name: value.masked_fill(~known, float("nan"))
            for name, value in (("free_energy", free), ("difference", free - alone), ("radius", free - center))
        }
        forward = response_log_probs(model, batch, candidates.labels, groups).sum(dim=1)
        return {"forward": forward, "length": candidates.lengths, **unknown}

    def combine(self, parts):
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
    """Mean radius of references, nats: where people's own responses lie, the `target` of `EnergyReranker`.

    Args:
        energy: a trained `DbmModel` with word vectors.
        tokenizer: the one it was trained with.
        queries, references: texts, one reference for each query, of the training or validation split.
        batch_size: pairs at a time.

    Raises:
        ValueError: without a pair, and for lists of different lengths.
    """
    if not queries or len(queries) != len(references):
        raise ValueError(f"There must be a reference for each query, got {len(references)} and {len(queries)}.")
    total = 0.0
    for start in range(0, len(queries), batch_size):
        part = slice(start, start + batch_size)
        ids = tokenizer(list(queries[part]), padding=True, return_tensors="pt", verbose=False).to(energy.device)
        rows = [torch.tensor(row) for row in tokenizer(text_target=list(references[part]), verbose=False).input_ids]
        labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING).to(energy.device)
        query = energy.query_features(ids["input_ids"], ids["attention_mask"])
        total += energy.radius(query, energy.response_features(labels.long())).double().sum().item()
    return total / len(queries)


@dataclass(frozen=True)
class DiscriminatorReranker(Reranker):
    """Answers with the candidate that the discriminator takes for a person's, or for the one that fits the query.

    The score is `(1 - weight) log p(y | q) / |y| + weight * s`, `s` the discriminator's logit in nats, or its cosine
    with the head "cosine".

    Attributes:
        discriminator: a `PairDiscriminator`; by default what stands in `discriminator/` of the generator's folder.
        weight: 0 to 1.
    """

    discriminator: PairDiscriminator | None = field(default=None, compare=False)
    weight: float = HALF

    title: ClassVar[str] = "rerank discriminator"

    def __post_init__(self):
        _check_weight(self.weight)
        super().__post_init__()

    def short_name(self):
        return "rerank discriminator" + ("" if self.weight == HALF else f" {self.weight:g}"), {"weight"}

    def parts(self, model, batch, tokenizer, candidates):
        discriminator = self.companion(
            self.discriminator, model, "discriminator",
            lambda place: PairDiscriminator.from_pretrained(place, subfolder="discriminator", use_safetensors=True),
        )  # fmt: skip
        generator_size = model.get_input_embeddings().num_embeddings
        check_same_vocabulary("discriminator", discriminator.config, generator_size, tokenizer)
        labels = _within(candidates.labels, discriminator.config.vocab_size)
        with torch.no_grad():
            query = discriminator.query_features(batch["input_ids"], batch.get("attention_mask"))
            logits = discriminator.score(query[candidates.groups], discriminator.response_features(labels))
        forward = response_log_probs(model, batch, candidates.labels, candidates.groups).sum(dim=1)
        return {"forward": forward, "length": candidates.lengths, "logit": logits.float()}

    def combine(self, parts):
        return _mixed(parts["forward"], parts["length"], parts["logit"].to(parts["forward"]), self.weight)


def _named(what: str, value: str | None = None) -> Reranker:
    """`rerank energy`, `rerank radius 40`, `rerank discriminator`."""
    if what == "radius":
        return EnergyReranker(by="radius", target=None if value is None else number_in_name(value))
    makers = {"energy": EnergyReranker, "discriminator": DiscriminatorReranker}
    if what not in makers:
        raise ValueError(f"`rerank` goes by `energy`, `radius` or `discriminator`, got {what!r}.")
    return makers[what]() if value is None else makers[what](weight=number_in_name(value))


register_decoding("rerank", _named, "rerank energy")
