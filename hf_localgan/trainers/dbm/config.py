"""Arguments of `DbmTrainer`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from hf_localgan.trainers.base.settings import SharedSettings

LOWER_IS_BETTER = ("reconstruction", "free_energy", "residual", "loss")
_UNSUPPORTED = {
    "fp16": "differences of energies do not fit into it (`bf16` is harmless)",
    "fp16_full_eval": "energies are evaluated in the precision of the parameters",
    "bf16_full_eval": "energies are evaluated in the precision of the parameters",
    "gradient_checkpointing": "no activations are kept that it could save",
    "activation_checkpointing": "no activations are kept that it could save",
    "torch_compile": "each period computes another loss",
    "label_smoothing_factor": "it belongs to losses over tokens",
    "neftune_noise_alpha": "its word vectors are constants",
    "auto_find_batch_size": "an update that runs out of memory has moved the chains",
}


@dataclass
class DbmTrainingConfig(SharedSettings):
    """Arguments of `DbmTrainer`, on top of `TrainingArguments`.

    Changed: batches of 256 pairs, a learning rate of 2e-3 and no clipping by default; nothing is reported to an
    experiment tracker unless `report_to` names one; memory is pinned only where there is an accelerator that reads it;
    data parallelism does not send buffers; the best model is the one with the best matching unless
    `metric_for_best_model` names another number. `weight_decay` acts on the couplings alone.
    """

    constant_buffers: ClassVar[bool] = True
    unsupported: ClassVar[Mapping[str, str]] = _UNSUPPORTED

    # Periods
    bottom_share: float = field(
        default=0.2,
        metadata={
            "help": "Share of all steps for period one, the Gaussian-Bernoulli RBM of both vectors. 0 leaves it out."
        },
    )
    top_share: float = field(
        default=0.1,
        metadata={"help": "Share of all steps for period two, the RBM on top of it. 0 leaves it out."},
    )
    contrastive_steps: int = field(
        default=1,
        metadata={"help": "Steps of contrastive divergence in these two periods; for a pair of RBMs in every update."},
    )

    # Joint training
    mean_field_steps: int = field(default=10, metadata={"help": "Steps of the mean field at the data; all are taken."})
    gibbs_steps: int = field(default=5, metadata={"help": "Sweeps of the persistent chains between two updates."})
    chains: int = field(
        default=256, metadata={"help": "Persistent chains of all processes together; each process has the same number."}
    )
    swap_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the swap loss, the log-loss of telling pairs from pairs with exchanged responses, "
            "beside maximum likelihood. At 10 matching gains much and likelihood loses little. 0 turns it off."
        },
    )
    momentum: float = field(
        default=0.0, metadata={"help": "Momentum of `optim: sgd`. Other optimizers have their own settings."}
    )
    scaler_rows: int = field(
        default=1_000_000,
        metadata={
            "help": "Number of pairs, from the start of the training data, that the scalers are fitted on. 0: all."
        },
    )

    # Evaluation
    matching_pairs: int = field(
        default=10_000,
        metadata={"help": "Number of pairs, from the start of a split, for matching and centres. 0: all."},
    )
    final_log_likelihood: bool = field(
        default=True,
        metadata={"help": "Estimate the log-likelihood of the evaluation data when training has ended."},
    )
    ais_temperatures: int = field(
        default=5_000, metadata={"help": "Temperatures of the annealed importance sampling that estimates ln Z."}
    )
    ais_chains: int = field(
        default=100, metadata={"help": "Chains of the annealed importance sampling, over all processes."}
    )

    # Divergence
    free_energy_bound: float = field(
        default=1000.0,
        metadata={
            "help": "Largest mean energy or free energy, nats per visible or hidden unit; above, training ends. 0: off."
        },
    )
    reconstruction_factor: float = field(
        default=3.0,
        metadata={
            "help": "Training ends when the reconstruction error of at least 256 pairs exceeds this factor times the "
            "best of the period. 0: off."
        },
    )
    min_chain_spread: float = field(
        default=1e-3,
        metadata={
            "help": "Training ends when the mean standard deviation of hidden units over the chains is below. 0: off."
        },
    )

    per_device_train_batch_size: int = field(default=256, metadata={"help": "Pairs per process and batch."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Pairs per process in evaluation."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Largest learning rate."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Largest norm of the gradient. 0: no limit."})

    def _settle(self):
        if self.needs_metric and self.metric_for_best_model is None:
            self.metric_for_best_model = "matching"
        super()._settle()
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith(LOWER_IS_BETTER)

    def _check_values(self):
        super()._check_values()
        for name in ("contrastive_steps", "mean_field_steps", "gibbs_steps", "ais_temperatures"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("chains", "ais_chains"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` must be at least 2, got {getattr(self, name)}: one chain has no spread.")
        for name in ("bottom_share", "top_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)}. 0 leaves the period out.")
        if self.bottom_share + self.top_share >= 1:
            raise ValueError(
                f"`bottom_share` {self.bottom_share} and `top_share` {self.top_share} leave no steps for joint "
                "training. Make their sum less than 1."
            )
        bounds = "free_energy_bound", "reconstruction_factor", "min_chain_spread"
        for name in ("swap_weight", "scaler_rows", "matching_pairs", *bounds):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be a number of at least 0, got {getattr(self, name)}.")
        if 0 < self.reconstruction_factor <= 1:
            raise ValueError(
                f"`reconstruction_factor` must be above 1, or 0 for no bound, got {self.reconstruction_factor}."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {self.momentum}.")

    def _check_settled(self):
        super()._check_settled()
        optim = getattr(self.optim, "value", self.optim)
        if self.momentum and optim != "sgd":
            raise ValueError(
                f"`momentum` {self.momentum} needs `optim: sgd`, got `optim: {optim}`. Set that, or leave `momentum` "
                "out; Adam has `adam_beta1`."
            )
        if self.ddp_find_unused_parameters is False:
            raise ValueError(
                "`ddp_find_unused_parameters` must not be False: a period trains some parameters only. Leave it out."
            )
