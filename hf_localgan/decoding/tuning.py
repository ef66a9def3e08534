"""Numbers of decodings chosen on the validation split: re-rankers rank stored candidates, searches search."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import tqdm

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.answers import Decoding, answer_queries, evaluation_mode, fitted_queries
from hf_localgan.decoding.candidates import draw_candidates
from hf_localgan.decoding.reranking import SHARED_FIELDS, Reranker
from hf_localgan.files import replacing
from hf_localgan.functional.mutual_information import Tuned, best_rows, climb_settings, settings_grid, tune_scores


@dataclass(frozen=True)
class CandidateTable:
    """Candidates of many queries with the parts of their scores.

    Attributes:
        queries: texts.
        texts: texts of the candidates.
        groups: index of each candidate's query, shape `(candidates,)`.
        finished: whether a candidate has an end token, bool, shape `(candidates,)`.
        parts: numbers of each candidate, see `Reranker.parts`; rows of a second dimension are padded with zeros.
        settings: settings of the reranker that made them, for the file.
    """

    queries: list[str]
    texts: list[str]
    groups: Tensor
    finished: Tensor
    parts: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)

    def best(self, scores: Tensor) -> list[str]:
        """The answer to each query under these scores, shape `(candidates,)`."""
        return [self.texts[row] for row in self._first(scores)]

    def _first(self, scores: Tensor) -> list[int]:
        ranked = best_rows(scores, self.groups, self.finished).tolist()
        first: dict[int, int] = {}
        for row in ranked:
            first.setdefault(int(self.groups[row]), row)
        return [first[query] for query in range(len(self.queries))]

    def variety(self) -> dict[str, float]:
        """How different the candidates of one query are, as means over queries.

        Returns:
            `candidates`: their number. `unique`: share of different texts. `distinct_starts`: share of different first
            three words; beams are often one sentence with several endings.
        """
        sums = {"candidates": 0.0, "unique": 0.0, "distinct_starts": 0.0}
        for query in range(len(self.queries)):
            texts = [self.texts[row] for row in (self.groups == query).nonzero()[:, 0].tolist()]
            sums["candidates"] += len(texts)
            sums["unique"] += len(set(texts)) / len(texts)
            sums["distinct_starts"] += len({tuple(text.split()[:3]) for text in texts}) / len(texts)
        return {name: value / len(self.queries) for name, value in sums.items()}

    def save(self, path: str | os.PathLike):
        """Writes a parquet file with a row per candidate."""
        columns: dict[str, Any] = {
            "group": self.groups.tolist(), "query": [self.queries[group] for group in self.groups.tolist()],
            "candidate": self.texts, "finished": self.finished.tolist(),
        }  # fmt: skip
        columns |= {f"part.{name}": value.tolist() for name, value in self.parts.items()}
        about = json.dumps(
            {"settings": self.settings, "types": {name: str(part.dtype) for name, part in self.parts.items()}}
        )
        table = pyarrow.table(columns).replace_schema_metadata({"hf_localgan": about})
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "CandidateTable":
        """Reads a file of `save`.

        Raises:
            OSError: if there is no such file.
            ValueError: for a file that is damaged or no table of candidates.
        """
        try:
            table = pyarrow.parquet.read_table(path)
            about = json.loads((table.schema.metadata or {})[b"hf_localgan"])
            columns = table.to_pydict()
            parts = {
                name: torch.tensor(columns[f"part.{name}"], dtype=getattr(torch, dtype.removeprefix("torch.")))
                for name, dtype in about["types"].items()
            }
            groups = torch.tensor(columns["group"], dtype=torch.long)
            queries = list(dict(zip(columns["group"], columns["query"], strict=True)).values())
            finished = torch.tensor(columns["finished"], dtype=torch.bool)
        except (pyarrow.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'"{path}" is no table of candidates ({type(error).__name__}: {error}). Make it by '
                "`tabulate_candidates(...).save(path)`."
            ) from error
        return cls(queries, columns["candidate"], groups, finished, parts, about["settings"])


def tabulate_candidates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    reranker: Reranker,
    *,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> CandidateTable:
    """Draws candidates for queries of the validation split, and computes their parts once.

    Args:
        model, tokenizer: the generator.
        queries: texts.
        reranker: draws the candidates and computes the parts.
        max_new_tokens, max_source_length, seed: as in `answer_queries`.
        batch_size: queries at a time, each with up to `beams + samples` candidates.

    Raises:
        ValueError: without a query.
    """
    if not queries:
        raise ValueError("There is no query to answer: the split is empty.")
    texts, groups, finished, parts = [], [], [], []
    with evaluation_mode(model, seed):
        for start in tqdm(range(0, len(queries), batch_size), desc=reranker.name, leave=False):
            read_queries = fitted_queries(tokenizer, queries[start : start + batch_size], max_source_length)
            encoded = tokenizer(
                read_queries, truncation=True, max_length=max_source_length, padding=True, return_tensors="pt"
            ).to(model.device)
            batch = {name: encoded[name] for name in ("input_ids", "attention_mask")}
            candidates = draw_candidates(
                model, batch, beams=reranker.beams, samples=reranker.samples, max_new_tokens=max_new_tokens
            )
            parts.append({
                name: value.cpu() for name, value in reranker.parts(model, batch, tokenizer, candidates).items()
            })  # fmt: skip
            tokens = [[token for token in row if token != PADDING] for row in candidates.labels.tolist()]
            texts += [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
            groups.append(candidates.groups.cpu() + start)
            finished.append(candidates.finished.cpu())
    joined = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return CandidateTable(list(queries), texts, torch.cat(groups), torch.cat(finished), joined, reranker.settings())


def _joined(parts: list[Tensor]) -> Tensor:
    """Rows one after the other; a second dimension is padded with zeros."""
    if parts[0].dim() == 1:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def tune_reranker(
    reranker: Reranker,
    table: CandidateTable,
    quality: Callable[[list[str]], float],
    grid: Iterable[Mapping[str, Any]],
) -> tuple[Reranker, Tuned]:
    """The reranker with the settings that answer the validation queries best, and the results of the tuning.

    Args:
        reranker: the reranker to tune; settings outside the grid stay.
        table: candidates of the validation split, made by this reranker or by one with the same parts. Measure the
            result once on the test split.
        quality: quality of one answer to each query, in their order; larger is better. For example the `quality` of a
            `ResponseMonitor`.
        grid: settings to try, see `functional.mutual_information.settings_grid`.

    Raises:
        ValueError: as `tune_scores`, and for settings that the reranker does not have.
    """
    own = {entry.name for entry in fields(reranker)} - SHARED_FIELDS - {"beams", "samples"}
    points = [dict(point) for point in grid]
    for point in points:
        if unknown := sorted(point.keys() - own):
            raise ValueError(f"{type(reranker).__name__} has no setting `{unknown[0]}` to tune; it has {sorted(own)}.")

    def score(**point: Any) -> Tensor:
        return replace(reranker, name="", **point).combine(table.parts)

    tuned = tune_scores(
        score, table.groups, lambda rows: quality([table.texts[row] for row in rows.tolist()]), points, table.finished
    )
    return replace(reranker, name="", **tuned.settings), tuned


def tune_search(
    decoding: Decoding,
    answer: Callable[[Decoding], list[list[str]]],
    quality: Callable[[list[str]], float],
    grid: Mapping[str, Sequence] | None = None,
) -> tuple[Decoding, Tuned]:
    """The decoding with the settings that answer the validation queries best, and the results of the tuning.

    Each point is a search over all queries, so one setting after the other is varied, from those of the decoding on:
    `functional.mutual_information.climb_settings`.

    Args:
        decoding: settings outside the grid stay.
        answer: answers each query once or more by a decoding, see `answer_queries`; the first answer counts.
        quality: as in `tune_reranker`.
        grid: values of settings to try, by default the decoding's own `grid`.

    Raises:
        ValueError: as `climb_settings`.
    """
    grid = decoding.grid if grid is None else grid
    with tqdm(desc=f"tuning {decoding.name}", unit=" settings", leave=False) as bar:

        def searched(**point: Any) -> float:
            answers = answer(replace(decoding, name="", **point))
            bar.update()
            return quality([texts[0] for texts in answers])

        tuned = climb_settings(searched, grid, {name: getattr(decoding, name) for name in grid})
    return replace(decoding, name="", **tuned.settings), tuned


class TunedDecodings(NamedTuple):
    """Decodings whose numbers the validation split chose.

    Attributes:
        decodings: in their order; those without numbers are the given ones.
        about: for each tuned decoding, by its new name, what was chosen from what, ready for JSON.
    """

    decodings: list[Decoding]
    about: dict[str, dict[str, Any]]


def tune_decodings(
    decodings: Sequence[Decoding],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    quality: Callable[[list[str]], float],
    *,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    seed: int = 0,
) -> TunedDecodings:
    """Chooses the numbers of MMI and of re-rankers on the validation split.

    A re-ranker ranks one table of candidates by every point of its grid. A search, antiLM, searches anew at each point
    (`tune_search`): numbers chosen by ranking candidates, as Li et al. 2016 do, make a search go on without end.

    Args:
        decodings: those with a `grid` are tuned.
        model, tokenizer: the generator.
        queries: of the validation split, never of the test split.
        quality: quality of one answer to each query, in their order; larger is better.
        max_new_tokens, max_source_length, seed: as in `answer_queries`.

    Raises:
        ValueError: as `tabulate_candidates` and `tune_reranker`.
    """
    chosen, about = [], {}
    for decoding in decodings:
        facts, best = {}, decoding
        if not decoding.grid:
            chosen.append(decoding)
            continue
        if isinstance(decoding, Reranker):
            table = tabulate_candidates(
                model, tokenizer, queries, decoding, max_new_tokens=max_new_tokens,
                max_source_length=max_source_length, seed=seed,
            )  # fmt: skip
            best, tuned = tune_reranker(decoding, table, quality, settings_grid(**decoding.grid))
            facts = {"candidates": table.variety()}
        else:
            answer = partial(
                answer_queries, model, tokenizer, queries, max_new_tokens=max_new_tokens,
                max_source_length=max_source_length, seed=seed,
            )  # fmt: skip
            best, tuned = tune_search(decoding, answer, quality)
        about[best.name] = {
            "settings": tuned.settings, "quality": tuned.quality, "queries": len(queries), **facts,
            "tried": [[point, value] for point, value in tuned.tried],
        }  # fmt: skip
        chosen.append(best)
    return TunedDecodings(chosen, about)
