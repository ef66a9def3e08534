"""Arguments of `AdverRegsTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_localgan.functional.policy_gradient import REWARDS
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig

STEP_REWARDS = ("sequence", "prefix", "rollout")
BASELINES = ("auto", "previous", "batch")
SCALES = ("none", "batch_std")

# What each preset sets where the user says nothing else. "paper": what Li et al. 2017 and their code train with.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "step_reward": "rollout",
        "baseline": "batch",
        "discriminator_steps": 5,
        "mismatched_weight": 0.0,
    },
}


@dataclass
class AdverRegsConfig(TwoPlayerConfig):
    """Arguments of `AdverRegsTrainer`, on top of `TwoPlayerConfig`.

    A `preset` changes defaults, nothing else: a value that is given wins, whatever it equals.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    preset: str = field(
        default="default",
        metadata={
            "help": "`default`; or `paper`, rewards by Monte Carlo rollouts and five updates of the discriminator for "
            "each of the generator, about 95 times the tokens of `default`."
        },
    )
    step_reward: str = field(
        default="prefix",
        metadata={
            "help": "What a token is paid for: `rollout`, the mean reward of continuations behind it; `prefix`, the "
            "discriminator's view of the response up to it; `sequence`, the reward of the whole response."
        },
    )
    reward: str = field(
        default="probability",
        metadata={
            "help": "What the discriminator pays: `probability`, D(q, y); `logit`, which does not vanish where it "
            "wins; `rank`, the share of the batch's responses that it likes less."
        },
    )
    baseline: str = field(
        default="auto",
        metadata={
            "help": "What is taken from a token's value: `previous`, the value of the response before the token; "
            "`batch`, the mean reward of the batch's other responses; `auto`, `batch` for the step reward `sequence` "
            "and `previous` for the others. There is always one: without it any positive reward sharpens the model."
        },
    )
    advantage_scale: str = field(
        default="none",
        metadata={"help": "Divide advantages by `batch_std`, their standard deviation over the batch; or by `none`."},
    )
    advantage_by_length: bool = field(
        default=False,
        metadata={"help": "Divide the advantages of a response by its number of tokens. The sum is the gradient."},
    )
    shuffle_rewards: bool = field(
        default=False,
        metadata={
            "help": "Give each response the rewards of another one of the batch: the control, which must not train."
        },
    )
    rollout_samples: int = field(default=5, metadata={"help": "Continuations of each prefix, for `rollout`."})
    rollout_rows: int = field(
        default=512, metadata={"help": "Largest number of continuations that are drawn in one call of `generate`."}
    )
    policy_max_new_tokens: int = field(
        default=20, metadata={"help": "Longest sample, in tokens, the end token included."}
    )
    real_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "Probability that a pair of the data is labelled as a generation in the discriminator's loss. 0.1 "
            "keeps it from being sure, where it wins too early."
        },
    )
    adversarial_weight: float = field(
        default=1.0, metadata={"help": "Weight of the policy gradient in the generator's loss."}
    )

    @property
    def chosen_baseline(self) -> str:
        """`previous` or `batch`."""
        if self.baseline != "auto":
            return self.baseline
        return "batch" if self.step_reward == "sequence" else "previous"

    def _check_values(self):
        super()._check_values()
        for name, accepted in (
            ("step_reward", STEP_REWARDS), ("reward", REWARDS), ("baseline", BASELINES), ("advantage_scale", SCALES),
        ):  # fmt: skip
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        for name in ("rollout_samples", "rollout_rows", "policy_max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.real_smoothing < 1:
            raise ValueError(f"`real_smoothing` is a probability below 1, got {self.real_smoothing}.")
        if self.baseline == "previous" and self.step_reward == "sequence":
            raise ValueError(
                'With `step_reward="sequence"` the value before a token is the reward of the whole response, which is '
                'not known before the token, so that nothing is left of the gradient. Set `baseline` to "batch".'
            )
        if self.per_device_train_batch_size < 2:
            raise ValueError(
                "A baseline is the mean reward of the batch's other responses, so `per_device_train_batch_size` must "
                f"be at least 2, got {self.per_device_train_batch_size}."
            )
