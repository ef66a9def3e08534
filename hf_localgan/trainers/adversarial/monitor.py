"""Answers to validation queries while a generator trains, in a few numbers."""

from collections.abc import Sequence

import numpy as np
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.answers import Decoding, answer_queries
from hf_localgan.metrics import metric_tokens
from hf_localgan.metrics.diversity import distinct_n, distinct_response_share, entropy_n, mean_length
from hf_localgan.metrics.embedding import Vectors, WordTable, embedding_scores


class ResponseMonitor:
    """Answers to the same queries at each evaluation, and their diversity and relevance.

    Args:
        queries: texts, each of them once.
        references: for each query at least one.
        tokenizer: the generator's.
        vectors: word vectors, for relevance; without, only diversity is measured.
        tokenization, lowercase: of the metrics, as in `metric_tokens`.
        max_new_tokens: longest answer.
        max_source_length: queries are cut there, in tokens.
        batch_size: queries at a time.
        decoding: how the queries are answered, by default greedily. One that draws does so from the same seed at each
            evaluation.

    Raises:
        ValueError: without queries, or with another number of lists of references.
    """

    def __init__(
        self,
        queries: Sequence[str],
        references: Sequence[Sequence[str]],
        tokenizer: PreTrainedTokenizerBase,
        vectors: Vectors | None = None,
        *,
        tokenization: str = "words",
        lowercase: bool = True,
        max_new_tokens: int = 30,
        max_source_length: int | None = None,
        batch_size: int = 128,
        decoding: Decoding | None = None,
    ):
        if not queries or len(queries) != len(references) or not all(references):
            raise ValueError(
                f"A monitor needs queries with references, got {len(queries)} queries and "
                f"{sum(bool(one) for one in references)} lists of references that are not empty."
            )
        self.queries, self.tokenizer = list(queries), tokenizer
        self.decoding = Decoding.greedy() if decoding is None else decoding
        self.tokenization, self.lowercase = tokenization, lowercase
        self.answering = {
            "max_new_tokens": max_new_tokens, "max_source_length": max_source_length, "batch_size": batch_size
        }  # fmt: skip
        self.references = [[self._tokens(text) for text in some] for some in references]
        self.words = None if vectors is None else WordTable.of(vectors)
        self.chance = float("nan")
        if self.words is not None:
            # The first reference of each query for the next query: relevance that needs no understanding.
            strangers = [some[0] for some in self.references]
            self.chance = self._relevance(strangers[1:] + strangers[:1])

    @property
    def scores_relevance(self) -> bool:
        return self.words is not None

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Scores of the answers.

        Returns:
            `dist_1`, `dist_2`, `ent_4` (nats), `distinct` (share of different answers), `length` (words, mean); with
            vectors `relevance` (mean over references) and `quality`, the volume `Dist-2 * Ent-4 * (relevance - chance)`
            under the point of the three, 0 for a relevance no better than chance, which is that of references of other
            queries. Ent-4 and relevance grow with the length of answers and Dist-2 falls, so that rambling wins
            nothing.
        """
        answers = answer_queries(model, self.tokenizer, self.queries, self.decoding, **self.answering)
        tokens = [self._tokens(texts[0]) for texts in answers]
        scores = {
            "dist_1": distinct_n(tokens, 1), "dist_2": distinct_n(tokens, 2), "ent_4": entropy_n(tokens, 4),
            "distinct": distinct_response_share(tokens), "length": mean_length(tokens),
        }  # fmt: skip
        scores = {name: 0.0 if np.isnan(value) else float(value) for name, value in scores.items()}  # no n-gram at all
        if self.words is not None:
            scores["relevance"] = self._relevance(tokens)
            scores["quality"] = scores["dist_2"] * scores["ent_4"] * max(0.0, scores["relevance"] - self.chance)
        return scores

    def measure_once(self, model: PreTrainedModel, accelerator) -> dict[str, float]:
        """As `measure`, by the main process, so that all processes decide by the same numbers."""
        scores = [self.measure(model) if accelerator.is_main_process else None]
        if accelerator.num_processes > 1:
            broadcast_object_list(scores)
        return scores[0]

    def _relevance(self, answers: list[list[str]]) -> float:
        return float(np.nanmean(embedding_scores(answers, self.references, self.words)["relevance_mean"]))

    def _tokens(self, text: str) -> list[str]:
        return metric_tokens(text, self.tokenization, self.lowercase)
