"""Arguments of `RamlTrainer`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast

from transformers import PreTrainedTokenizerBase

from hf_localgan.data.label_frames import regular_tokens
from hf_localgan.payoff.base import Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.rewards import Chrf, NegativeTokenErrorRate, Reward, RougeL, SentenceBleu
from hf_localgan.payoff.weighted_hamming import (
    SIMILARITY_TEMPERATURE,
    WeightedHammingPayoff,
    check_similarity_temperature,
)
from hf_localgan.trainers.base.averaging import AveragedConfig
from hf_localgan.trainers.raml.similarity import label_counts, similar_tokens

# The paper's best temperatures: Hamming for translation, edit distance for speech.
TEMPERATURES = {"hamming": 0.85, "edit": 0.9, "exact_edit": 0.9, "weighted_hamming": None, "importance": None}
PROPOSALS = ("hamming", "edit", "exact_edit")
REWARDS = ("bleu", "chrf", "rouge_l", "token_error_rate")
BASES = ("proposal", "uniform")
MEASURES = ("uniform", "unigram", "batch")
TO_ZERO = "_to_zero"
SCHEDULES = ("constant", "linear", "cosine", f"linear{TO_ZERO}", f"cosine{TO_ZERO}")

IMPORTANCE_FIELDS = ("reward", "num_candidates", "proposal", "proposal_temperature", "base")
WEIGHTED_FIELDS = ("similarity", "neighbours", "neighbour_rest", "even_rate", "similarity_temperature")
PAYOFF_FIELDS = (
    "payoff",
    "temperature",
    "edit_rate",
    "edit_rate_length",
    "edit_cost",
    "max_edits",
    "base_measure",
    *WEIGHTED_FIELDS,
    *IMPORTANCE_FIELDS,
)
COLLATOR_FIELDS = ("num_samples", "weighted", "temperature_schedule", "temperature_start")
# Runs of one payoff, reward and temperature that differ in these are not seeds of one experiment.
SERIES_FIELDS = (
    "num_candidates",
    "proposal",
    "proposal_temperature",
    "base",
    "edit_cost",
    "max_edits",
    "base_measure",
    *WEIGHTED_FIELDS,
    *COLLATOR_FIELDS,
)


@dataclass
class RamlConfig(AveragedConfig):
    """Arguments of `RamlTrainer`, on top of `TokenLossConfig`, with averages at the end.

    A sampler or a `RamlCollator` that the trainer is given replaces the one that these settings describe; leave them at
    their defaults then.
    """

    _argument_alternatives: ClassVar = (*AveragedConfig._argument_alternatives, ("temperature", "edit_rate"))

    # Payoff
    payoff: str = field(
        default="hamming",
        metadata={
            "help": "Distribution that replaces each reference by a draw: `hamming` (replaces tokens; the paper's "
            "translation runs), `edit` (replaces, deletes and inserts by the paper's Eq. 11; its speech runs), "
            "`exact_edit` (the same, but counts a string once, however many edits lead to it), `weighted_hamming` "
            "(replaces tokens by similar ones, see `similarity`) or `importance` (any `reward`)."
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "tau, in units of the reward: 0 is maximum likelihood, and draws move away from the references as "
            "it rises. By default the paper's best: 0.85 for `hamming`, 0.9 for edit distance. `importance` and "
            "`weighted_hamming` have no default."
        },
    )
    edit_rate: float | None = field(
        default=None,
        metadata={
            "help": "Edits per token, such as 0.05, from which the temperature is computed; instead of `temperature`. "
            "On the command line, either of the two replaces the other in the file."
        },
    )
    edit_rate_length: int = field(
        default=20, metadata={"help": "Length of a reference, in tokens, at which `edit_rate` is reached."}
    )
    edit_cost: str = field(
        default="log_vocab",
        metadata={
            "help": "Cost of one edit: `log_vocab` (1 + ln v, which reproduces the paper's Figure 1), `unit` (1) or "
            "a number."
        },
    )
    max_edits: int | None = field(
        default=None,
        metadata={
            "help": "Largest number of edits of a draw by edit distance, at least 1. By default twice the reference's "
            "length."
        },
    )
    num_samples: int = field(
        default=1, metadata={"help": "Draws for each reference and step; their losses are averaged. The paper: 1."}
    )

    base_measure: str = field(
        default="uniform",
        metadata={
            "help": "Which tokens edits bring in: `uniform`, all alike; `unigram`, as often as in the training labels; "
            "or `batch`, those of the same batch, so that draws depend on what stands beside an example. The number "
            "of edits and the temperature keep their meaning. For `hamming`, `edit`, and proposals of these names."
        },
    )

    # Similar tokens
    similarity: str = field(
        default="context",
        metadata={
            "help": "What `weighted_hamming` takes for similar: `context` (tokens that stand beside the same tokens in "
            "the labels), `translation` (tokens seen with the same source tokens), `prefix` (tokens that begin alike), "
            "or a path: a table with the columns token, neighbour and similarity, a file of word vectors, or the "
            "folder of a model with the same tokenizer."
        },
    )
    neighbours: int = field(
        default=10, metadata={"help": "Number of similar tokens that replace a token more often than others do."}
    )
    neighbour_rest: bool = field(
        default=True,
        metadata={"help": "Draw tokens that are not similar, too."},
    )
    even_rate: bool = field(
        default=True,
        metadata={
            "help": "Replace all tokens equally often, and let similarity choose by what. False gives each token a "
            "cost, `edit_cost` times one less its similarity: nearly all edits then fall on the few tokens with a near "
            "twin."
        },
    )
    similarity_temperature: float = field(
        default=SIMILARITY_TEMPERATURE,
        metadata={
            "help": "Temperature of the softmax over similarities that chooses the substitute, with `even_rate`. The "
            "smaller it is, the more often the nearest tokens are drawn."
        },
    )

    # Temperature schedule
    temperature_schedule: str = field(
        default="constant",
        metadata={
            "help": "Curve over all steps. `constant`: always `temperature`. `linear` and `cosine`: the temperature "
            "from `temperature_start` to `temperature`. `linear_to_zero` and `cosine_to_zero`: the edits per token, "
            "from those of `temperature` or `edit_rate` to 0; for `importance` the temperature itself."
        },
    )
    temperature_start: float = field(default=0.0, metadata={"help": "Temperature of the first step of a schedule."})

    # Importance sampling
    reward: str = field(
        default="bleu",
        metadata={"help": "Reward of `importance`: `bleu`, `chrf`, `rouge_l` or `token_error_rate` (negative)."},
    )
    num_candidates: int = field(default=16, metadata={"help": "Candidates that the proposal draws for each reference."})
    proposal: str = field(
        default="hamming", metadata={"help": "Sampler of the candidates: `hamming`, `edit` or `exact_edit`."}
    )
    proposal_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of the proposal. Default as for `temperature`."}
    )
    base: str = field(
        default="proposal",
        metadata={
            "help": "Distribution that the payoff sharpens: `proposal` (candidates weigh exp(reward / tau)) or "
            "`uniform` (Eq. 4 as printed; with large vocabularies it picks the most corrupted candidates)."
        },
    )
    weighted: bool = field(
        default=False,
        metadata={
            "help": "Train on all candidates by their weights, instead of on one that is drawn by these weights."
        },
    )

    def changed(self, names: Iterable[str]) -> dict[str, Any]:
        """The settings among `names` that differ from their defaults, with their values."""
        defaults = {setting.name: setting.default for setting in fields(self)}
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults[name]}

    def check_weighted(self):
        """Refuses `weighted` if these settings describe a sampler without candidates.

        Raises:
            ValueError: naming the payoff that has candidates.
        """
        if self.weighted and self.payoff != "importance":
            raise ValueError(
                f"`weighted` trains on the candidates of `payoff: importance`, got `payoff: {self.payoff}`. Set that, "
                "or leave `weighted` out."
            )

    def _check_values(self):
        super()._check_values()
        self._check_names()
        self._check_numbers()
        self._check_temperatures()
        self._check_idle()
        if self.weighted and self.num_samples > 1:
            raise ValueError(
                f"`weighted` trains on all {self.num_candidates} candidates, so `num_samples` must be 1, got "
                f"{self.num_samples}. For more set `num_candidates`."
            )

    def _check_names(self):
        accepted = {
            "payoff": tuple(TEMPERATURES), "proposal": PROPOSALS, "reward": REWARDS, "base": BASES,
            "temperature_schedule": SCHEDULES, "base_measure": MEASURES,
        }  # fmt: skip
        for name, values in accepted.items():
            if getattr(self, name) not in values:
                raise ValueError(f'`{name}` must be one of {", ".join(values)}, got "{getattr(self, name)}".')

    def _check_numbers(self):
        for name in ("num_samples", "num_candidates", "edit_rate_length", "max_edits", "neighbours"):
            value = getattr(self, name)
            if value is None and name == "max_edits":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"`{name}` must be at least 1, a whole number, got {value!r}.")
        for name in ("temperature", "temperature_start", "proposal_temperature", "edit_rate"):
            value = getattr(self, name)
            if value is None and name != "temperature_start":
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0:
                raise ValueError(
                    f"`{name}` must be at least 0, a number, got {value!r}. 0 leaves the references as they are."
                )
        _parse_edit_cost(self.edit_cost)
        check_similarity_temperature(self.similarity_temperature)

    def _check_temperatures(self):
        if self.payoff == "importance":
            if self.edit_rate is not None:
                raise ValueError(
                    f"`edit_rate` sets the temperature of {', '.join(PROPOSALS)}; `payoff: importance` takes "
                    "`temperature`, in units of the reward. Leave `edit_rate` out; candidates follow "
                    "`proposal_temperature`."
                )
            if self.temperature is None:
                raise ValueError(
                    "`payoff: importance` needs a `temperature`, in units of the reward. For BLEU with 16 candidates "
                    "try 0.02, 0.05, 0.1, 0.2 and 0.5."
                )
        if self.payoff == "weighted_hamming" and self.temperature is None and self.edit_rate is None:
            raise ValueError(
                "`payoff: weighted_hamming` needs an `edit_rate`, such as 0.02, or a `temperature`: the paper has no "
                "best one for it."
            )
        if self.edit_rate is not None:
            self._check_edit_rate()
        if self.temperature_schedule.endswith(TO_ZERO) and self.temperature_start:
            raise ValueError(
                f"`temperature_start` is {self.temperature_start}, but `temperature_schedule: "
                f"{self.temperature_schedule}` starts with `temperature` or `edit_rate` and ends at 0. Leave it out."
            )
        if self.temperature_schedule == "constant":
            if self.temperature_start:
                raise ValueError(
                    f"`temperature_start` is {self.temperature_start}, but `temperature_schedule` is constant. Set it "
                    "to `linear` or `cosine`, or use `temperature` alone."
                )
            return
        for name in ("temperature", "temperature_start"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"`{name}` must be finite for a `temperature_schedule`, got inf.")
        if not self.dataloader_in_order:
            raise ValueError(
                f"`temperature_schedule: {self.temperature_schedule}` needs `dataloader_in_order`, for the step of a "
                "batch follows from its place in the order. Set it to true."
            )

    def _check_edit_rate(self):
        assert self.edit_rate is not None
        if self.temperature is not None:
            raise ValueError(
                f"`edit_rate` {self.edit_rate} sets the temperature, got it with `temperature` {self.temperature}. "
                "Give one of them: take the other out of the file, or put `--temperature none` or "
                "`--edit_rate none` on the command line."
            )
        maximum, reason = 1.0, "replaces a token once at most"
        if self.payoff not in ("hamming", "weighted_hamming"):
            edits = 2 * self.edit_rate_length if self.max_edits is None else self.max_edits
            maximum = edits / self.edit_rate_length
            reason = f"makes {edits} edits of {self.edit_rate_length} tokens at most"
        if self.edit_rate >= maximum:
            raise ValueError(
                f"`edit_rate` must be below {maximum:g}, for `payoff: {self.payoff}` {reason}; got {self.edit_rate}. "
                "0.05 is five edits per 100 tokens."
            )

    def _check_idle(self):
        """Refuses settings that nothing would read."""
        idle = {} if self.payoff == "importance" else self.changed(IMPORTANCE_FIELDS)
        if idle:
            raise ValueError(
                f"{listed(idle)} belong to `payoff: importance`, got `payoff: {self.payoff}`. Set that, or leave them "
                "out."
            )
        idle = {} if self.payoff == "weighted_hamming" else self.changed(WEIGHTED_FIELDS)
        if idle:
            raise ValueError(
                f"{listed(idle)} belong to `payoff: weighted_hamming`, got `payoff: {self.payoff}`. Set that, or leave "
                "them out."
            )
        idle = {} if self.even_rate else self.changed(("similarity_temperature",))
        if idle:
            raise ValueError(
                f"{listed(idle)} is for `even_rate: true`; without it `temperature` and `edit_cost` say how near "
                "substitutes are. Set that, or leave it out."
            )
        sampler = self.proposal if self.payoff == "importance" else self.payoff
        if sampler in ("hamming", "weighted_hamming") and self.max_edits is not None:
            raise ValueError(
                f"`max_edits` {self.max_edits} bounds draws by `edit` and `exact_edit`, but these are drawn by "
                f"`{sampler}`. Leave it out."
            )
        if sampler not in ("hamming", "edit") and self.base_measure != "uniform":
            raise ValueError(
                f"`base_measure: {self.base_measure}` is for draws by `hamming` and `edit`, but these are drawn by "
                f"`{sampler}`. Leave it out."
            )
        if self.payoff == "importance" and self.base == "uniform" and self.base_measure == "batch":
            raise ValueError(
                "`base: uniform` needs the probability of a candidate, which depends on the whole batch with "
                "`base_measure: batch`. Use `unigram`, or `base: proposal`."
            )


def make_payoff(
    args: RamlConfig, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]] | None = None
) -> Payoff:
    """The sampler that the settings describe.

    Args:
        args: the trainer's.
        tokenizer: its regular tokens may be drawn.
        rows: the training rows, of which `base_measure: unigram` and `payoff: weighted_hamming` count the labels. Of
            none at all nothing is known: the measure is uniform, and no tokens are similar.

    Raises:
        ValueError: for `weighted` without candidates, for settings that the sampler refuses, and for those that need
            `rows` without them.
    """
    args.check_weighted()
    tokens = regular_tokens(tokenizer)
    if rows is None and (args.base_measure == "unigram" or args.payoff == "weighted_hamming"):
        name = "base_measure: unigram" if args.base_measure == "unigram" else "payoff: weighted_hamming"
        raise ValueError(f"`{name}` counts the training labels: give the training rows as `rows`.")
    if args.payoff == "weighted_hamming":
        return _weighted_payoff(args, tokenizer, tokens, rows or ())
    measure: Any = {"uniform": None, "batch": "batch"}.get(args.base_measure)
    if args.base_measure == "unigram":
        counts = label_counts(rows or (), max(tokens) + 1)
        measure = counts if counts[tokens].any() else None
    if args.payoff != "importance":
        return _token_payoff(args, args.payoff, tokens, args.temperature, args.edit_rate, measure)
    return ImportancePayoff(
        _token_payoff(args, args.proposal, tokens, args.proposal_temperature, measure=measure),
        make_reward(args.reward, tokenizer),
        num_candidates=args.num_candidates,
        temperature=cast(float, args.temperature),  # checked
        base=cast(Literal["proposal", "uniform"], args.base),  # checked
    )


def _weighted_payoff(
    args: RamlConfig, tokenizer: PreTrainedTokenizerBase, tokens: list[int], rows: Iterable[Mapping[str, Any]]
) -> Payoff:
    counts = label_counts(rows, max(tokens) + 1)
    settings: dict[str, Any] = {
        "tokens": tokens, "edit_cost": _parse_edit_cost(args.edit_cost), "rest": args.neighbour_rest,
        "neighbours": similar_tokens(args.similarity, args.neighbours, tokenizer, tokens, rows),
        "counts": counts if counts[tokens].any() else None, "even_rate": args.even_rate,
        "similarity_temperature": args.similarity_temperature,
    }  # fmt: skip
    if args.edit_rate is not None and counts.any():
        return WeightedHammingPayoff.for_edit_rate(edit_rate=args.edit_rate, **settings)
    return WeightedHammingPayoff(temperature=args.temperature or 0.0, **settings)


def make_reward(name: str, tokenizer: PreTrainedTokenizerBase | None) -> Reward:
    """The reward with a name of `REWARDS`, over token ids; chrF decodes them.

    Raises:
        ValueError: for chrF without a tokenizer.
    """
    if name == "chrf":
        return Chrf(cast(PreTrainedTokenizerBase, tokenizer))  # which refuses `None`
    return {"bleu": SentenceBleu, "rouge_l": RougeL, "token_error_rate": NegativeTokenErrorRate}[name]()


def _token_payoff(
    args: RamlConfig,
    name: str,
    tokens: list[int],
    temperature: float | None,
    edit_rate: float | None = None,
    measure: Any = None,
) -> Payoff:
    edit_cost = _parse_edit_cost(args.edit_cost)
    sampler: Any = {"hamming": HammingPayoff, "edit": EditPayoff, "exact_edit": ExactEditPayoff}[name]
    settings: dict[str, Any] = {"tokens": tokens, "edit_cost": edit_cost}
    if name != "hamming":
        settings["max_edits"] = args.max_edits
    if name != "exact_edit":
        settings["base_measure"] = measure
    if edit_rate is not None:
        return sampler.for_edit_rate(edit_rate=edit_rate, length=args.edit_rate_length, **settings)
    return sampler(temperature=TEMPERATURES[name] if temperature is None else temperature, **settings)


def _parse_edit_cost(text: str | float) -> str | float:
    """The cost as a number, unless the text is a name; a `ValueError` for other texts."""
    if text in ("log_vocab", "unit"):
        return text
    try:
        cost = 0.0 if isinstance(text, bool) else float(text)
    except (TypeError, ValueError):
        cost = 0.0
    if not 0 < cost < float("inf"):
        raise ValueError(f"`edit_cost` must be log_vocab (1 + ln v), unit (1) or a positive number, got {text!r}.")
    return cost


def listed(settings: dict[str, Any]) -> str:
    """Names and values of settings, for messages."""
    return ", ".join(f"`{name}` ({value})" for name, value in settings.items())
