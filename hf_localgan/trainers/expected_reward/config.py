"""Arguments of `ExpectedRewardTrainer`."""

import math
from dataclasses import dataclass, field

from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.raml.config import REWARDS

BASELINES = ("leave_one_out", "mean", "greedy", "none")


@dataclass
class ExpectedRewardConfig(TokenLossConfig):
    """Arguments of `ExpectedRewardTrainer`, on top of `TokenLossConfig`.

    Label smoothing acts on the maximum-likelihood term alone: in the policy gradient it would raise or lower the
    probability of the whole vocabulary together with that of a sample.
    """

    # Objective
    reward: str = field(
        default="bleu",
        metadata={
            "help": "Reward of a sample against its reference, on token ids: `bleu`, `rouge_l`, `chrf` or "
            "`token_error_rate` (negative). For any other function use the trainer's argument `reward`."
        },
    )
    temperature: float = field(
        default=0.0,
        metadata={"help": "Weight of the model's entropy, tau in the paper, in units of the reward per nat."},
    )
    mle_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the maximum-likelihood term, the mean negative log-likelihood per token in nats, in the "
            "loss. It keeps generations fluent while rewards are still rare."
        },
    )

    # Estimator
    num_samples: int = field(default=4, metadata={"help": "Samples from the model for each example and update."})
    policy_max_new_tokens: int = field(
        default=50,
        metadata={"help": "Largest length of a sample, in tokens; longer samples are cut there and rewarded as cut."},
    )
    baseline: str = field(
        default="leave_one_out",
        metadata={
            "help": "Baseline, subtracted from the rewards to lower the variance: `leave_one_out` (mean of the "
            "example's other samples), `mean` (running mean of all rewards), `greedy` (reward of the greedy "
            "generation) or `none`."
        },
    )
    baseline_decay: float = field(
        default=0.95, metadata={"help": "Share of the running mean that each update keeps, for the baseline `mean`."}
    )

    def _check_values(self):
        super()._check_values()
        for name, accepted in (("reward", REWARDS), ("baseline", BASELINES)):
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        for name in ("num_samples", "policy_max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.baseline == "leave_one_out" and self.num_samples < 2:
            raise ValueError(
                f"`baseline: leave_one_out` needs `num_samples` of at least 2, got {self.num_samples}. With one sample "
                "set `mean` or `greedy`."
            )
        for name in ("temperature", "mle_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be a number of at least 0, got {getattr(self, name)}. 0 turns it off.")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be in [0, 1), got {self.baseline_decay}. 0.95 is usual.")
