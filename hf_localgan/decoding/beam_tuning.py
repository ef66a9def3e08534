"""Beam width and length penalty, chosen on the validation split from one table of candidates for each width."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.answers import Decoding, answer_queries
from hf_localgan.decoding.candidates import Candidates
from hf_localgan.decoding.likelihood import response_log_probs
from hf_localgan.decoding.reranking import Reranker
from hf_localgan.decoding.tuning import TunedDecodings, tabulate_candidates, tune_reranker
from hf_localgan.functional.mutual_information import settings_grid

TUNED_BEAM = "tuned beam"
PENALTIES = tuple(step / 10 for step in range(0, 31, 2))


@dataclass(frozen=True)
class LengthRanker(Reranker):
    """Chooses among the hypotheses of a beam by `log p(y | x) / |y| ** length_penalty`, as the search itself does."""

    length_penalty: float = 1.0

    title: ClassVar[str] = "length"
    grid: ClassVar[Mapping[str, tuple]] = {"length_penalty": PENALTIES}

    def parts(
        self, model: PreTrainedModel, batch: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase,
        candidates: Candidates,
    ) -> dict[str, Tensor]:  # fmt: skip
        log_probs = response_log_probs(model, batch, candidates.labels, candidates.groups)
        return {"log_prob": log_probs.sum(dim=1), "length": candidates.lengths}

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        lengths = parts["length"].clamp(min=1).to(torch.float64)
        return parts["log_prob"].to(torch.float64) / lengths**self.length_penalty


def tune_beam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    quality: Callable[[list[str]], float],
    widths: Sequence[int],
    *,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> TunedDecodings:
    """The beam search, by width and length penalty, whose answers to validation queries are best.

    Each width is searched once; its hypotheses, ranked anew, stand for every length penalty (`tune_reranker`). The
    search under another penalty may find other hypotheses, so the best penalty of each width is searched with before
    the widths are compared, and the penalty 1 with it, which is taken where the better rank was a fluke of the table.

    Args:
        model, tokenizer: the generator.
        queries: of the validation split, never of the test split.
        quality: quality of one answer to each query, in their order; larger is better, such as corpus BLEU.
        widths: of the beams to try, each at least 2.
        max_new_tokens, max_source_length, seed: as in `answer_queries`.
        batch_size: queries at a time.

    Returns:
        One decoding, named `tuned beam`, and what was tried: for each width the qualities by length penalty in the
        table, and the qualities of the searches.

    Raises:
        ValueError: without a query or a width, and for a width below 2.
    """
    if not widths:
        raise ValueError("`widths` names no beam. Give at least one, such as 8.")
    tried: list[list[Any]] = []
    searched: list[tuple[float, int, float]] = []
    variety: dict[str, float] = {}
    for width in dict.fromkeys(widths):
        Decoding.beam(width)  # refuses one below 2
        ranker = LengthRanker(beams=width, samples=0)
        table = tabulate_candidates(
            model, tokenizer, queries, ranker, max_new_tokens=max_new_tokens, max_source_length=max_source_length,
            batch_size=batch_size, seed=seed,
        )  # fmt: skip
        _, tuned = tune_reranker(ranker, table, quality, settings_grid(**ranker.grid))
        tried += [[{"beams": width, **point}, value] for point, value in tuned.tried]
        variety = table.variety()
        for penalty in dict.fromkeys((1.0, float(tuned.settings["length_penalty"]))):
            answers = answer_queries(
                model, tokenizer, queries, _beam(width, penalty), max_new_tokens=max_new_tokens,
                max_source_length=max_source_length, batch_size=batch_size, seed=seed,
            )  # fmt: skip
            searched.append((float(quality([texts[0] for texts in answers])), width, penalty))
    best, width, penalty = max(searched, key=lambda entry: entry[0])
    about = {
        "settings": {"beams": width, "length_penalty": penalty}, "quality": best, "queries": len(queries),
        "candidates": variety, "tried": tried,
        "searched": [[{"beams": w, "length_penalty": p}, value] for value, w, p in searched],
    }  # fmt: skip
    return TunedDecodings([_beam(width, penalty)], {TUNED_BEAM: about})


def _beam(width: int, penalty: float) -> Decoding:
    return Decoding(TUNED_BEAM, {"do_sample": False, "num_beams": width, "length_penalty": penalty})
