"""Arguments of `RamlTrainer`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from hf_localgan.data.label_frames import regular_tokens
from hf_localgan.payoff.base import Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.rewards import Chrf, NegativeTokenErrorRate, Reward, RougeL, SentenceBleu
from hf_localgan.trainers.base.settings import TokenLossConfig

# The paper's best temperatures: Hamming for translation, edit distance for speech.
TEMPERATURES = {"hamming": 0.85, "edit": 0.9, "exact_edit": 0.9, "importance": None}
PROPOSALS = ("hamming", "edit", "exact_edit")
REWARDS = ("bleu", "chrf", "rouge_l", "token_error_rate")
BASES = ("proposal", "uniform")
SCHEDULES = ("constant", "linear", "cosine")

OF_IMPORTANCE = ("reward", "num_candidates", "proposal", "proposal_temperature", "base")
OF_PAYOFF = ("payoff", "temperature", "edit_rate", "edit_rate_length", "edit_cost", "max_edits", *OF_IMPORTANCE)
OF_COLLATOR = ("num_samples", "weighted", "temperature_schedule", "temperature_start")
# What sets apart two runs of one payoff and reward, beside the temperature: such are not seeds of one experiment.
OF_SERIES = ("num_candidates", "proposal", "proposal_temperature", "base", "edit_cost", "max_edits", *OF_COLLATOR)


@dataclass
class RamlConfig(TokenLossConfig):
    """Arguments of `RamlTrainer`, on top of `TokenLossConfig`.

    A sampler or a `RamlCollator` that is given to the trainer takes the place of the one that these settings describe,
    which are then left at their defaults.
    """

    _argument_alternatives: ClassVar = (("temperature", "edit_rate"),)

    # Payoff
    payoff: str = field(
        default="hamming",
        metadata={
            "help": "What a reference is replaced by a draw of: `hamming` (replaces tokens; the paper's translation "
            "runs), `edit` (replaces, deletes and inserts by the paper's Eq. 11; its speech runs), `exact_edit` (the "
            "same without counting a string once for each way to it) or `importance` (any `reward`)."
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "tau, in units of the reward: 0 is maximum likelihood, and more is further from the references. By "
            "default the paper's best: 0.85 for `hamming`, 0.9 for edit distance. `importance` has no default."
        },
    )
    edit_rate: float | None = field(
        default=None,
        metadata={
            "help": "Instead of `temperature`: the edits per token that are wanted, such as 0.05; the temperature is "
            "solved for. On the command line one of the two takes back what the file says of the other."
        },
    )
    edit_rate_length: int = field(
        default=20, metadata={"help": "Tokens of the reference for which `edit_rate` is reached."}
    )
    edit_cost: str = field(
        default="log_vocab",
        metadata={
            "help": "What one edit costs: `log_vocab` (1 + ln v, which reproduces the paper's Figure 1), `unit` (1) or "
            "a number."
        },
    )
    max_edits: int | None = field(
        default=None,
        metadata={
            "help": "Most edits of a draw by edit distance, at least 1. By default twice the reference's length."
        },
    )
    num_samples: int = field(
        default=1, metadata={"help": "Draws for each reference and step, whose losses are averaged. The paper: 1."}
    )

    # Temperature schedule
    temperature_schedule: str = field(
        default="constant",
        metadata={
            "help": "How the temperature moves from `temperature_start` to `temperature` over all steps: `constant` "
            "(always `temperature`), `linear` or `cosine`."
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
        default=None, metadata={"help": "Its temperature. By default as for `temperature`."}
    )
    base: str = field(
        default="proposal",
        metadata={
            "help": "What the payoff sharpens: `proposal` (candidates weigh exp(reward / tau)) or `uniform` (Eq. 4 as "
            "printed; with large vocabularies it picks the most corrupted candidates)."
        },
    )
    weighted: bool = field(
        default=False,
        metadata={"help": "Train on all candidates by their weights, instead of on one drawn in proportion to them."},
    )

    def changed(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of these settings that differ from their defaults."""
        defaults = {one.name: one.default for one in fields(self)}
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults[name]}

    def check_weighted(self):
        """Refuses `weighted` with a described sampler that has no candidates; one given to the trainer may have some.

        Raises:
            ValueError: saying which payoff it needs.
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
            "temperature_schedule": SCHEDULES,
        }  # fmt: skip
        for name, values in accepted.items():
            if getattr(self, name) not in values:
                raise ValueError(f'`{name}` must be one of {", ".join(values)}, got "{getattr(self, name)}".')

    def _check_numbers(self):
        for name in ("num_samples", "num_candidates", "edit_rate_length", "max_edits"):
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
        _edit_cost(self.edit_cost)

    def _check_temperatures(self):
        if self.payoff == "importance":
            if self.edit_rate is not None:
                raise ValueError(
                    f"`edit_rate` solves for the temperature of {', '.join(PROPOSALS)}; `payoff: importance` takes "
                    "`temperature`, in units of the reward. Leave `edit_rate` out; the candidates follow "
                    "`proposal_temperature`."
                )
            if self.temperature is None:
                raise ValueError(
                    "`payoff: importance` needs a `temperature`, in units of the reward. For BLEU with 16 candidates "
                    "try 0.02, 0.05, 0.1, 0.2 and 0.5."
                )
        if self.edit_rate is not None:
            self._check_edit_rate()
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
                f"`temperature_schedule: {self.temperature_schedule}` needs `dataloader_in_order`: which step a batch "
                "belongs to is known from its place in the order."
            )

    def _check_edit_rate(self):
        if self.temperature is not None:
            raise ValueError(
                f"`edit_rate` {self.edit_rate} solves for the temperature, got it with `temperature` "
                f"{self.temperature}. Give one of them: take the other out of the file, or put `--temperature none` or "
                "`--edit_rate none` on the command line."
            )
        most, why = 1.0, "replaces a token once at most"
        if self.payoff != "hamming":
            edits = 2 * self.edit_rate_length if self.max_edits is None else self.max_edits
            most, why = edits / self.edit_rate_length, f"makes {edits} edits of {self.edit_rate_length} tokens at most"
        if self.edit_rate >= most:
            raise ValueError(
                f"`edit_rate` must be below {most:g}, for `payoff: {self.payoff}` {why}; got {self.edit_rate}. 0.05 is "
                "five edits per 100 tokens."
            )

    def _check_idle(self):
        """Refuses settings that nothing would read."""
        idle = {} if self.payoff == "importance" else self.changed(OF_IMPORTANCE)
        if idle:
            raise ValueError(
                f"{listed(idle)} belong to `payoff: importance`, got `payoff: {self.payoff}`. Set that, or leave them "
                "out."
            )
        kind = self.proposal if self.payoff == "importance" else self.payoff
        if kind == "hamming" and self.max_edits is not None:
            raise ValueError(
                f"`max_edits` {self.max_edits} bounds draws by edit distance (`edit`, `exact_edit`), but these are "
                "drawn by `hamming`. Leave it out."
            )


def make_payoff(args: RamlConfig, tokenizer: PreTrainedTokenizerBase) -> Payoff:
    """The sampler that the settings describe.

    Args:
        args: of the trainer.
        tokenizer: its tokens that are not special are what may be drawn.
    """
    args.check_weighted()
    tokens = regular_tokens(tokenizer)
    if args.payoff != "importance":
        return _token_payoff(args, args.payoff, tokens, args.temperature, args.edit_rate)
    return ImportancePayoff(
        _token_payoff(args, args.proposal, tokens, args.proposal_temperature),
        make_reward(args.reward, tokenizer),
        num_candidates=args.num_candidates,
        temperature=args.temperature,
        base=args.base,
    )


def make_reward(name: str, tokenizer: PreTrainedTokenizerBase) -> Reward:
    """The reward of a name in `REWARDS`, over token ids but for chrF, which decodes them."""
    if name == "chrf":
        return Chrf(tokenizer)
    return {"bleu": SentenceBleu, "rouge_l": RougeL, "token_error_rate": NegativeTokenErrorRate}[name]()


def _token_payoff(args: RamlConfig, kind: str, tokens, temperature: float | None, edit_rate: float | None = None):
    edit_cost = _edit_cost(args.edit_cost)
    sampler = {"hamming": HammingPayoff, "edit": EditPayoff, "exact_edit": ExactEditPayoff}[kind]
    settings = {"tokens": tokens, "edit_cost": edit_cost}
    if kind != "hamming":
        settings["max_edits"] = args.max_edits
    if edit_rate is not None:
        return sampler.for_edit_rate(edit_rate=edit_rate, length=args.edit_rate_length, **settings)
    return sampler(temperature=TEMPERATURES[kind] if temperature is None else temperature, **settings)


def _edit_cost(text: str | float) -> str | float:
    """A number where the text is one."""
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
    """Names and values, for messages."""
    return ", ".join(f"`{name}` ({value})" for name, value in settings.items())
