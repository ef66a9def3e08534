"""Settings of the evaluation: the decodings that answer the test split, and the scores of the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.word_vectors import WordVectors, load_word_vectors
from hf_localgan.decoding.answers import Decoding, fitted_queries
from hf_localgan.decoding.beam_tuning import tune_beam
from hf_localgan.decoding.tuning import tune_decodings
from hf_localgan.evaluation.dialogue import Evaluation, evaluate_generator
from hf_localgan.evaluation.translation import bleu_against, evaluate_translations, translation_metrics
from hf_localgan.recipes.metric_vectors import metric_word_vectors
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.parts import load_energy
from hf_localgan.recipes.settings.data import DataArguments, option, report_fewer_dimensions
from hf_localgan.recipes.stage import fingerprints
from hf_localgan.terminal import progress_shown
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.settings import TokenLossConfig

TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
TUNED_WIDTHS = (4, 8)


@dataclass
class EvaluationArguments:
    """How the generator answers the test split, and how the answers are scored."""

    _argument_group_name: ClassVar[str] = "evaluation"
    _argument_emptied_by_none: ClassVar[tuple[str, ...]] = ("beams", "temperatures")  # without a value there are some

    scores: str = option(
        "dialogue", "Scores of the answers: `dialogue` (diversity, relevance) or `translation` (BLEU, chrF)."
    )
    decodings: list[str] | None = option(
        None,
        "Decodings by name, such as `greedy`, `beam 5`, `temperature 0.7`. `beams` and `temperatures`, if given, add "
        "to them. By default greedy, the beams and the temperatures.",
    )
    beams: list[int] | None = option(
        None,
        "Widths of the beam searches that answer beside greedy decoding, or `none`. By default 5, and 8 for "
        "translation.",
    )
    temperatures: list[float] | None = option(
        None,
        f"Temperatures at which answers are sampled, or `none`. By default {', '.join(map(str, TEMPERATURES))}, and "
        "none for translation.",
    )
    answers_per_query: int = option(
        1, "Number of answers sampled for each query. Local coverage uses all of them, other scores the first."
    )
    max_new_tokens: int = option(40, "Largest number of tokens of an answer.")
    max_test_queries: int | None = option(None, "Answer so many queries from the start of the split. By default all.")
    metric_vectors: str | None = option(
        None,
        "Word vectors for the embedding scores: a file. By default they are made from the training pairs (PMI, SVD; a "
        "million of them at most) and kept beside them.",
    )
    metric_vector_size: int = option(100, "Dimensions of the word vectors that are made for the embedding scores.")
    metric_energy: str | None = option(
        None,
        "Folder or Hub id of an energy, by which the radii of all answers to a query are compared with those of its "
        "references (Wasserstein distance, nats). A LocalGAN training takes its own.",
    )
    metric_tokenization: str | None = option(
        None,
        "How the scores split text: `words`, `characters`, `jieba` or `whitespace`. By default `words`, and "
        "`characters` for Chinese.",
    )
    metric_lowercase: bool = option(True, "Ignore case in the scores of dialogue. BLEU of translations never does.")
    resamples: int = option(1000, "Number of bootstrap samples for each interval.")
    tune_queries: int = option(
        0,
        "Number of validation queries on which numbers of decodings are chosen first. Dialogue: those of MMI and of "
        "re-rankers among the decodings, by `eval_quality`: Dist-2 * Ent-4 * relevance above chance, less where "
        "answers are longer than the references. Translation: beam width and length penalty of one more decoding, "
        "`tuned beam`, by BLEU. 0 takes the numbers as they are given.",
    )
    tune_beams: list[int] | None = option(
        None, "Beam widths that `tune_queries` tries for translation. By default 4 and 8."
    )
    answer_batch_size: int = option(128, "Number of queries that are answered at a time.")

    def __post_init__(self):
        if self.scores not in ("dialogue", "translation"):
            raise ValueError(f"`scores` must be `dialogue` or `translation`, got {self.scores!r}.")
        self.chosen_decodings()  # refuses wrong names now, not after the training
        if self.metric_tokenization not in (None, "words", "characters", "jieba", "whitespace"):
            raise ValueError(
                "`metric_tokenization` must be one of words, characters, jieba, whitespace, got "
                f"{self.metric_tokenization!r}."
            )
        for name in ("answers_per_query", "max_new_tokens", "max_test_queries", "answer_batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.tune_queries < 0:
            raise ValueError(f"`tune_queries` must not be negative, got {self.tune_queries}. 0 tunes nothing.")
        if self.metric_energy is not None and self.scores == "translation":
            raise ValueError("`metric_energy` measures radii of responses, and `scores` is `translation`.")
        if self.tune_beams is not None and not (self.tune_queries and self.scores == "translation"):
            raise ValueError(
                f"`tune_beams` {self.tune_beams} are tried by `tune_queries` with `scores: translation`, got "
                f"`tune_queries: {self.tune_queries}` and `scores: {self.scores}`. Set both, or leave it out."
            )
        if self.tune_beams is not None and (not self.tune_beams or min(self.tune_beams) < 2):
            raise ValueError(f"`tune_beams` must hold widths of at least 2, got {self.tune_beams}.")
        if self.resamples < 0:
            raise ValueError(f"`resamples` must not be negative, got {self.resamples}.")

    def chosen_decodings(self) -> list[Decoding]:
        """The named decodings, or greedy; then the beams and the temperatures. Each once.

        Raises:
            ValueError: for a name or a value that is not accepted, and for no decoding.
        """
        beams, temperatures = self.beams, self.temperatures
        if self.decodings is None:
            is_translation = self.scores == "translation"
            beams = ([8] if is_translation else [5]) if beams is None else beams
            temperatures = ([] if is_translation else [*TEMPERATURES]) if temperatures is None else temperatures
            named = [Decoding.greedy()]
        else:
            named = [Decoding.parse(name) for name in self.decodings]
        decodings = [*named, *map(Decoding.beam, beams or ()), *map(Decoding.sampling, temperatures or ())]
        if not decodings:
            raise ValueError("`decodings` names none. Name at least one, such as `greedy`, or leave it out.")
        return list({decoding.name: decoding for decoding in decodings}.values())

    def tokenization(self, language: str) -> str:
        """The tokenization of the metrics for pairs of a language."""
        return self.metric_tokenization or ("words" if language == "en" else "characters")

    def vectors(self, pairs: Pairs, data: DataArguments) -> WordVectors | None:
        """The word vectors of the embedding scores, the same for every model that is scored on the same data.

        Returns:
            `None` where the training split has too few words to make them of, which is warned of.

        Raises:
            ValueError: without a training split, and for a file that is missing or damaged.
        """
        if self.metric_vectors is not None:
            return load_word_vectors(expand_path(self.metric_vectors, "metric_vectors"))
        if "train" not in pairs:
            raise ValueError(
                f"Word vectors for the embedding scores are made from the training split, and there is none (found: "
                f"{', '.join(pairs)}). Name a file of vectors by `metric_vectors`."
            )
        unit = self.tokenization(data.pair_language)
        try:
            vectors = metric_word_vectors(pairs["train"], unit, self.metric_lowercase, self.metric_vector_size)
        except ValueError:
            warn_once(
                "The embedding scores are left out: the training pairs have no two words that occur twice beside each "
                "other, of which word vectors could be made. Name a file of vectors by `metric_vectors`."
            )
            return None
        report_fewer_dimensions("metric_vector_size", self.metric_vector_size, vectors.dim, "metric_vectors")
        vectors.name = f"{vectors.name}:{Path(data.dataset).name}"
        return vectors

    def scorer(self, pairs: Pairs, data: DataArguments, seed: int) -> Callable[..., Evaluation]:
        """A function `score(model, tokenizer, about=...)` that evaluates a generator on the test split.

        On a terminal it shows its progress.

        Args:
            pairs: of all splits; the training split makes word vectors.
            data: settings of the pairs.
            seed: of sampling and resampling.

        Raises:
            ValueError: as `vectors`.
        """
        score = self._scorer(pairs, data, seed)

        def shown(*args: Any, **kwargs: Any) -> Evaluation:
            with progress_shown():
                return score(*args, **kwargs)

        return shown

    def _scorer(self, pairs: Pairs, data: DataArguments, seed: int) -> Callable[..., Evaluation]:
        test, rows = pairs.grouped[data.test_split], slice(self.max_test_queries)
        settings: dict[str, Any] = {
            "queries": test["query"][rows],
            "references": test["responses"][rows],
            "decodings": self.chosen_decodings(),
            "tokenization": self.tokenization(data.pair_language),
            "resamples": self.resamples,
            "seed": seed,
            "max_new_tokens": self.max_new_tokens,
            "max_source_length": data.max_source_length,
            "batch_size": self.answer_batch_size,
        }
        if self.scores == "translation":
            settings["bleu_tokenize"] = _bleu_tokenize(data)
            if not self.tune_queries:
                return partial(evaluate_translations, **settings)
            return partial(self._tune_and_translate, pairs, data, settings)
        vectors = self.vectors(pairs, data)
        settings |= {
            "vectors": vectors, "lowercase": self.metric_lowercase, "num_samples": self.answers_per_query
        }  # fmt: skip
        if self.metric_energy is not None:
            path = expand_path(self.metric_energy, "metric_energy")
            marks = "".join(fingerprints(path).values())[:8] if Path(path).is_dir() else ""
            settings |= {"energy": load_energy(path), "energy_name": f"{Path(path).name}{marks and '-'}{marks}"}
        if not self.tune_queries or not any(decoding.grid for decoding in self.chosen_decodings()):
            return partial(evaluate_generator, **settings)

        def tune_and_evaluate(
            model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, about: dict[str, Any] | None = None
        ) -> Evaluation:
            monitor = self.monitor(pairs, data, tokenizer, self.tune_queries, vectors)
            names = ", ".join(decoding.name for decoding in self.chosen_decodings() if decoding.grid)
            print(f"tunes on {len(monitor.queries)} queries: {names}", flush=True)
            tuned = tune_decodings(
                self.chosen_decodings(), model, tokenizer, monitor.queries,
                lambda answers: monitor.scores(answers)["quality"], max_new_tokens=self.max_new_tokens,
                max_source_length=data.max_source_length, seed=seed,
            )  # fmt: skip
            note = f"{', '.join(tuned.about)} on {len(monitor.queries)} queries of {data.eval_split}"
            result = evaluate_generator(
                model, tokenizer, **{**settings, "decodings": tuned.decodings}, about={**(about or {}), "tuned": note}
            )
            result.tuning = tuned.about
            return result

        return tune_and_evaluate

    def _tune_and_translate(
        self,
        pairs: Pairs,
        data: DataArguments,
        settings: dict[str, Any],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        about: dict[str, Any] | None = None,
    ) -> Evaluation:
        """Chooses beam width and length penalty by BLEU of validation sentences; then `evaluate_translations`."""
        if data.eval_split not in pairs:
            raise ValueError(
                f"`tune_queries` needs the validation split, and the data have no `{data.eval_split}` (found: "
                f"{', '.join(pairs)}). Name it by `eval_split`, or set `tune_queries` to 0."
            )
        grouped = pairs.grouped[data.eval_split]
        number = min(self.tune_queries, len(grouped))
        rows = grouped.select([row * len(grouped) // number for row in range(number)])
        references = rows["responses"][:]
        tuned = tune_beam(
            model, tokenizer, rows["query"][:],
            bleu_against(references, settings["bleu_tokenize"]),
            self.tune_beams or TUNED_WIDTHS, max_new_tokens=self.max_new_tokens,
            max_source_length=data.max_source_length, batch_size=max(1, self.answer_batch_size // 4),
            seed=settings["seed"],
        )  # fmt: skip
        decodings = [*settings["decodings"], *tuned.decodings]
        note = f"{', '.join(tuned.about)} on {number} queries of {data.eval_split}"
        result = evaluate_translations(
            model, tokenizer, **{**settings, "decodings": decodings}, about={**(about or {}), "tuned": note}
        )
        result.tuning = tuned.about
        return result

    def monitor(
        self,
        pairs: Pairs,
        data: DataArguments,
        tokenizer: PreTrainedTokenizerBase,
        number: int,
        vectors: WordVectors | None,
        **settings: Any,
    ) -> ResponseMonitor:
        """Scores answers to evenly spaced validation queries as the evaluation does.

        Args:
            pairs: of all splits.
            data: settings of the pairs.
            tokenizer: the generator's.
            number: of queries, fewer where the split has fewer.
            vectors: see `vectors`.
            settings: further ones of `ResponseMonitor`.
        """
        grouped = pairs.grouped[data.eval_split]
        number = min(number, len(grouped))
        rows = grouped.select([row * len(grouped) // number for row in range(number)])
        return ResponseMonitor(
            rows["query"][:], rows["responses"][:], tokenizer, vectors,
            tokenization=self.tokenization(data.pair_language), lowercase=self.metric_lowercase,
            max_source_length=data.max_source_length, batch_size=self.answer_batch_size, **settings,
        )  # fmt: skip

    def metrics(
        self, args: TokenLossConfig, pairs: Pairs, data: DataArguments, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[EvalPrediction], dict[str, float]] | None:
        """`compute_metrics` for a trainer: BLEU of the validation split if its translations are generated.

        Changes `args` so that the trainer decodes as the evaluation does: greedily unless `generation_num_beams` is
        set, and up to `max_new_tokens` unless `generation_max_length` is set.

        Args:
            args: configuration of the trainer, before the trainer is made.
            pairs: of all splits.
            data: settings of the pairs.
            tokenizer: the generator's.

        Returns:
            `None` where validation measures the likelihood alone.

        Raises:
            ValueError: if BLEU is to choose the best model, and is not computed.
        """
        if not (self.scores == "translation" and args.predict_with_generate):
            if (args.metric_for_best_model or "").removeprefix("eval_") == "bleu":
                raise ValueError(
                    "`metric_for_best_model` is BLEU, which needs `scores: translation` and `predict_with_generate: "
                    f"true`. They are `{self.scores}` and `{str(args.predict_with_generate).lower()}`."
                )
            if args.predict_with_generate:
                warn_once(
                    "`predict_with_generate: true` does nothing: it is for `scores: translation`, and these are "
                    f"`{self.scores}`, for which the test split alone is answered. Leave it out."
                )
            return None
        args.include_for_metrics = sorted({*args.include_for_metrics, "inputs"})
        args.generation_num_beams = args.generation_num_beams or 1
        args.generation_max_length = args.generation_max_length or self.max_new_tokens + 1  # the start token counts
        grouped = pairs.grouped[data.eval_split]
        queries = fitted_queries(tokenizer, grouped["query"][:], data.max_source_length)
        return translation_metrics(
            tokenizer, queries, grouped["responses"], bleu_tokenize=_bleu_tokenize(data),
            max_source_length=data.max_source_length if data.on_long == "truncate" else None,
        )  # fmt: skip


def _bleu_tokenize(data: DataArguments) -> str:
    return "13a" if data.language == "en" else "zh"
