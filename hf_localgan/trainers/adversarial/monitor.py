"""Diversity and relevance of answers to validation queries, measured while a generator trains."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.answers import Decoding, answer_queries
from hf_localgan.metrics import metric_tokens
from hf_localgan.metrics.diversity import distinct_n, distinct_response_share, entropy_n, mean_length
from hf_localgan.metrics.embedding import Vectors, WordTable, embedding_scores

BEAM_QUERIES = 100  # queries that beams answer, too
LONG = 99  # percentile of the references' lengths beyond which an answer is long


class ResponseMonitor:
    """Answers the same queries at each evaluation, and measures the answers' diversity and relevance.

    Args:
        queries: texts, all different.
        references: the references of each query, at least one.
        tokenizer: the generator's tokenizer.
        vectors: word vectors, which relevance needs; without them only diversity is measured.
        tokenization, lowercase: how the metrics split texts, as in `metric_tokens`.
        max_new_tokens: longest answer, in tokens.
        max_source_length: longest query, in tokens; longer ones are cut.
        batch_size: number of queries that are answered together.
        decoding: how the queries are answered, by default greedily. A decoding that draws uses the same seed at each
            evaluation.
        beams: width of a beam search that answers up to 100 of the queries, evenly spaced, too. 0: none.

    Raises:
        ValueError: without queries, for a query without references, and for another number of reference lists.
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
        beams: int = 0,
    ):
        if not queries or len(queries) != len(references) or not all(references):
            raise ValueError(
                f"A monitor needs queries with references, got {len(queries)} queries and "
                f"{sum(map(bool, references))} lists of references that are not empty."
            )
        self.queries, self.tokenizer = list(queries), tokenizer
        self.decoding = Decoding.greedy() if decoding is None else decoding
        self.tokenization, self.lowercase = tokenization, lowercase
        self.answer_settings: dict[str, Any] = {
            "max_new_tokens": max_new_tokens, "max_source_length": max_source_length, "batch_size": batch_size
        }  # fmt: skip
        self.references = [[self._tokens(text) for text in texts] for texts in references]
        lengths = [len(tokens) for texts in self.references for tokens in texts]
        self.longest = float(np.percentile(lengths, LONG, method="higher"))
        self.reference_length = max(1.0, float(np.mean(lengths)))
        repeated = [repeats_trigram(tokens) for texts in self.references for tokens in texts]
        self.reference_repetition = float(np.mean(repeated))
        self.beams = Decoding.beam(beams) if beams else None
        asked = min(BEAM_QUERIES, len(self.queries))
        self.beam_queries = [self.queries[row * len(self.queries) // asked] for row in range(asked)]
        self.words = None if vectors is None else WordTable.of(vectors)
        self.chance = float("nan")
        if self.words is not None:
            # The first reference of each query as the answer to the query before it: relevance without understanding.
            mismatches = [texts[0] for texts in self.references]
            self.chance = self._relevance(self.words, mismatches[1:] + mismatches[:1])

    @property
    def scores_relevance(self) -> bool:
        """Whether relevance and quality are measured."""
        return self.words is not None

    @property
    def names(self) -> frozenset[str]:
        """Names of the scores."""
        names = {"dist_1", "dist_2", "ent_4", "distinct", "length"}
        names |= {"relevance", "quality"} if self.scores_relevance else set()
        return frozenset(names | ({"beam_length", "beam_long", "beam_repetition"} if self.beams else set()))

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Scores of the answers.

        Returns:
            `dist_1`, `dist_2`, `ent_4` (nats), `distinct` (share of different answers) and `length` (mean, in words);
            with vectors also `relevance` (mean over references) and `quality`, `Dist-2 * Ent-4 * (relevance - chance)`,
            which is 0 if the relevance is no larger than chance, the relevance of references of other queries. Longer
            answers raise Ent-4 and relevance, so that answers longer than the references lose: `exp(2 - 2 * length /
            reference length)` is a factor, the square of BLEU's brevity penalty turned round. With `beams` also what
            `beam_scores` measures.
        """
        answers = answer_queries(model, self.tokenizer, self.queries, self.decoding, **self.answer_settings)
        scores = self.scores([texts[0] for texts in answers])
        if self.beams is None:
            return scores
        # Long enough for an answer to be too long: a limit below would hide it.
        limit = max(self.answer_settings["max_new_tokens"], int(2 * self.longest) + 1)
        settings = {**self.answer_settings, "max_new_tokens": limit}
        found = answer_queries(model, self.tokenizer, self.beam_queries, self.beams, **settings)
        return scores | self.beam_scores([texts[0] for texts in found])

    def beam_scores(self, answers: Sequence[str]) -> dict[str, float]:
        """Whether beams break down, which greedy answers do not show: they grow long, or repeat themselves.

        Args:
            answers: one or more.

        Returns:
            `beam_length` (mean, in words), `beam_long`, the share of answers longer than the references' 99th
            percentile, and `beam_repetition`, the share with a trigram that stands in them twice.
        """
        tokens = [self._tokens(text) for text in answers]
        return {
            "beam_length": float(mean_length(tokens)),
            "beam_long": float(np.mean([len(words) > self.longest for words in tokens])),
            "beam_repetition": float(np.mean([repeats_trigram(words) for words in tokens])),
        }

    def scores(self, answers: Sequence[str]) -> dict[str, float]:
        """The same scores of given answers, one for each query, in their order.

        Raises:
            ValueError: for another number of answers.
        """
        if len(answers) != len(self.queries):
            raise ValueError(f"There must be an answer to each of {len(self.queries)} queries, got {len(answers)}.")
        tokens = [self._tokens(text) for text in answers]
        scores = {
            "dist_1": distinct_n(tokens, 1), "dist_2": distinct_n(tokens, 2), "ent_4": entropy_n(tokens, 4),
            "distinct": distinct_response_share(tokens), "length": mean_length(tokens),
        }  # fmt: skip
        scores = {name: 0.0 if np.isnan(value) else float(value) for name, value in scores.items()}  # no n-gram at all
        if self.words is not None:
            scores["relevance"] = self._relevance(self.words, tokens)
            above_chance = max(0.0, scores["relevance"] - self.chance)
            verbosity = min(1.0, math.exp(2 - 2 * scores["length"] / self.reference_length))
            scores["quality"] = scores["dist_2"] * scores["ent_4"] * above_chance * verbosity
        return scores

    def measure_once(self, model: PreTrainedModel, accelerator: Accelerator) -> dict[str, float]:
        """`measure` on the main process, which sends the scores to the others, so that all decide by the same ones."""
        scores: list[Any] = [self.measure(model) if accelerator.is_main_process else None]
        if accelerator.num_processes > 1:
            broadcast_object_list(scores)
        return scores[0]

    def _relevance(self, words: WordTable, answers: list[list[str]]) -> float:
        return float(np.nanmean(embedding_scores(answers, self.references, words)["relevance_mean"]))

    def _tokens(self, text: str) -> list[str]:
        return metric_tokens(text, self.tokenization, self.lowercase)


def repeats_trigram(words: Sequence[str]) -> bool:
    """Whether three words in a row stand twice in an answer."""
    trigrams = [tuple(words[place : place + 3]) for place in range(len(words) - 2)]
    return len(set(trigrams)) < len(trigrams)
