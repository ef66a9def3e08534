"""Measures of a deep Boltzmann machine while it trains, and on a split."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import EvalLoopOutput

from hf_localgan.metrics.energy import center_cosine, group_means, matching_accuracy, other_query_responses
from hf_localgan.models.dbm import DbmModel, LogPartition, Weights
from hf_localgan.models.dbm.contrastive_dbm import bottom_means
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.randomness import keyed_seed
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.dbm.data import standardised
from hf_localgan.trainers.dbm.periods import PERIODS, PeriodProgress

Spread = Callable[[Callable[[int, int], Tensor], int], Tensor]

CHUNK_PAIRS = 1024
FAR = 10.0  # standard deviations of a dimension, of which training pairs have 1 on average
SEED = 0  # for choosing responses of other queries


class PairMeasures(NamedTuple):
    """Measures of each pair, shape `(pairs,)`.

    Attributes:
        free_energy: `F~(q, r)`, nats.
        reconstruction: squared error per dimension of the visible units' means given the binary units' means.
        residual: largest movement of a mean in the last step of the mean field.
        steps: number of steps of the mean field.
    """

    free_energy: Tensor
    reconstruction: Tensor
    residual: Tensor
    steps: Tensor


class LogLikelihood(NamedTuple):
    """Mean log-density of standardised vectors, nats: `-F - ln Z`, and its parts.

    It is a bound from neither side: the bound `F~ >= F` makes it too low, and an estimate of `ln Z`, which is too low
    on average, makes it too high. The log-density of the vectors before standardising is smaller by the sum of both
    scalers' `ln std`, and larger by `ln |det|` of both matrices where they whiten.

    Attributes:
        log_likelihood: mean over the pairs.
        log_likelihood_per_dimension: `log_likelihood` divided by the number of dimensions of `[q; r]`.
        free_energy: mean over the pairs.
        log_partition: `ln Z`.
        log_partition_error: its standard error.
        log_partition_ess: effective sample size of the chains; if it is a few, do not trust the error.
        pairs: number of pairs.
    """

    log_likelihood: float
    log_likelihood_per_dimension: float
    free_energy: float
    log_partition: float
    log_partition_error: float
    log_partition_ess: float
    pairs: int


class DbmEvaluationMixin(Trainer):
    """Evaluation of a `DbmModel`, the same for any batch size and number of processes.

    Over all pairs of the split, means of `eval_free_energy` (`F~`, nats), `eval_reconstruction` (squared error per
    dimension) and `eval_residual` (residual of the mean field at the model's own tolerance). Over the first
    `matching_pairs` pairs `eval_matching`, the share whose score `F(q, r) - F(bq, r)` (`bq`: the queries' part of the
    visible bias) is lower for their response than for a random response of another query, ties counting one half; and
    `eval_center_cosine`, the mean cosine of the centre `rc(q)` with the mean of the query's responses. Queries with
    equal vectors count as one query. Predictions, also for `compute_metrics`, are the free energies.
    """

    args: DbmTrainingConfig
    model: DbmModel

    def _as_joint(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    @torch.no_grad()
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        batches, vectors, kept = [], [], 0
        limit = self.args.matching_pairs or math.inf
        with self._as_joint():
            for query, response in self._vectors(dataloader):
                measured = torch.stack([values.float() for values in measure_pairs(self.model, query, response)], dim=1)
                # Gathering drops the pairs that were repeated to fill the last batch of all processes.
                batches.append(self.accelerator.gather_for_metrics(measured).double().cpu())
                if kept < limit:
                    pairs = self.accelerator.gather_for_metrics(torch.cat([query, response], dim=1))
                    vectors.append(pairs[: int(min(len(pairs), limit - kept))])
                    kept += len(vectors[-1])
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            measures = PairMeasures(*torch.cat(batches).T)
            size = self.model.config.query_size
            query, response = torch.cat(vectors).tensor_split([size], dim=1)
            metrics = {
                name: getattr(measures, name).mean().item() for name in ("free_energy", "reconstruction", "residual")
            }
            metrics |= measure_matching(self.model, query, response, self._spread)
            distance = max(side.double().square().mean().sqrt().item() for side in (query, response))
            if distance > FAR:
                warn_once(
                    f"These pairs lie {distance:.3g} standard deviations from the training pairs, and energies of them "
                    "mean nothing: of so few training pairs some dimensions hardly vary, by which vectors are divided. "
                    "Take more pairs, fewer dimensions (`vector_size`), or `whiten: false`."
                )
        energies = measures.free_energy.numpy()
        if self.compute_metrics is not None:
            metrics |= self.compute_metrics(EvalPrediction(energies, None))  # type: ignore[arg-type]
        metrics = {
            name if name.startswith(f"{metric_key_prefix}_") else f"{metric_key_prefix}_{name}": value
            for name, value in metrics.items()
        }
        return EvalLoopOutput(energies, None, metrics, len(energies))

    @torch.no_grad()
    def log_likelihood(
        self,
        dataset: Dataset | str | None = None,
        *,
        chains: int | None = None,
        temperatures: int | None = None,
        seed: int = 0,
    ) -> LogLikelihood:
        """Mean log-likelihood of a split, with `ln Z` by annealed importance sampling on all processes.

        Args:
            dataset: rows, or a name in `eval_dataset`; by default `eval_dataset`.
            chains, temperatures: numbers of chains and temperatures; by default `ais_chains` and `ais_temperatures`.
            seed: seed of the sampling.

        Raises:
            ValueError: for scalers that are not fitted, and for an empty split.
        """
        chains, processes = chains or self.args.ais_chains, self.args.world_size
        generator = torch.Generator(self.args.device)
        generator.manual_seed(keyed_seed(seed, self.args.process_index))
        with self._as_joint():
            partition = self.model.log_partition(
                max(2, -(-chains // processes)), temperatures or self.args.ais_temperatures, generator=generator
            )
            log_weights = self.accelerator.gather(partition.log_weights.to(self.args.device, torch.float32))
            if processes > 1:
                partition = LogPartition.from_log_weights(log_weights)
            parts = []
            for query, response in self._vectors(self.get_eval_dataloader(dataset)):
                parts.append(self.accelerator.gather_for_metrics(self.model.free_energy(query, response)))
        energies = torch.cat(parts).double()
        mean = energies.mean().item()
        value, dimensions = -mean - partition.value, len(self.model.visible_bias)
        return LogLikelihood(
            value, value / dimensions, mean, partition.value, partition.standard_error,
            partition.effective_sample_size, len(energies),
        )  # fmt: skip

    def _vectors(self, dataloader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        """Standardised vectors of each batch."""
        for scaler in (self.model.query_scaler, self.model.response_scaler):
            if not scaler.is_fitted:
                raise ValueError(
                    "The model's scalers are not fitted yet, so it cannot be evaluated. Train it first, or call "
                    "`trainer.fit_scalers()`."
                )
        self.model.eval()
        self.callback_handler.eval_dataloader = dataloader
        empty = True
        for batch in dataloader:
            empty = False
            yield standardised(self.model, self._prepare_inputs(batch))
        if empty:
            raise ValueError("There are no pairs to evaluate on. The report of `load_pairs` lists the reasons.")

    def _spread(self, function: Callable[[int, int], Tensor], number: int) -> Tensor:
        """Joins `function(begin, end)` over ranges of `number` rows, shared out to all processes."""
        ranges = [(begin, min(begin + CHUNK_PAIRS, number)) for begin in range(0, number, CHUNK_PAIRS)]
        own_ranges = ranges[self.args.process_index :: self.args.world_size]
        parts = [function(begin, end) for begin, end in own_ranges]
        if self.args.world_size == 1:
            return torch.cat(parts)
        pattern = parts[0] if parts else function(0, 1)
        joined = pattern.new_zeros(number, *pattern.shape[1:])
        for (begin, end), values in zip(own_ranges, parts, strict=True):
            joined[begin:end] = values
        return self.accelerator.reduce(joined, "sum")


@torch.no_grad()
def measure_pairs(model: DbmModel, query: Tensor, response: Tensor) -> PairMeasures:
    """Measures of standardised vectors, at the fixed point of the mean field."""
    means, weights = model.mean_field(query, response), Weights(model)
    error = weights.visible_mean(means.hidden, means.top) - weights.visible(query, response)
    energies = model.free_energy(query, response, means)
    return PairMeasures(energies, error.square().mean(dim=1), means.residual, means.steps)


@torch.no_grad()
def measure_matching(model: DbmModel, query: Tensor, response: Tensor, spread: Spread) -> dict[str, float]:
    """`matching` and `center_cosine` (see `DbmEvaluationMixin`); neither where there is one query alone.

    Args:
        model: the energy.
        query, response: standardised vectors of all measured pairs, `(pairs, query_size)` and `(pairs, response_size)`.
        spread: `spread(function, number)` joins `function(begin, end)` over ranges of `number` rows.
    """
    groups = query_groups(query)
    if groups.max() < 1:
        return {}
    mismatches = torch.from_numpy(other_query_responses(groups, np.random.default_rng(SEED))).to(query.device)
    neutral = model.visible_bias[: query.shape[1]]

    def energies(queries: Tensor, responses: Tensor) -> Tensor:
        return spread(lambda begin, end: model.free_energy(queries[begin:end], responses[begin:end]), len(queries))

    prior = energies(neutral.expand(len(query), -1), response)
    true, false = energies(query, response) - prior, energies(query, response[mismatches]) - prior[mismatches]
    queries = query[torch.from_numpy(np.unique(groups, return_index=True)[1]).to(query.device)]
    centers = spread(lambda begin, end: model.center(queries[begin:end]), len(queries))
    means = group_means(_numpy(response), groups)
    return {
        "matching": matching_accuracy(_numpy(true), _numpy(false), groups, resamples=1).value,
        "center_cosine": center_cosine(_numpy(centers), means, resamples=1).true.value,
    }


def query_groups(query: Tensor) -> np.ndarray:
    """Numbers the different queries by their vectors, in the order of their first pair; shape `(pairs,)`."""
    numbers: dict[bytes, int] = {}
    rows = query.cpu().numpy()
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], dtype=np.int64)


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


@torch.no_grad()
def measure_training(
    model: DbmModel,
    batch: tuple[Tensor, Tensor],
    progress: PeriodProgress,
    mean_field_steps: int,
    model_pairs: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """Measures of a batch and of this process's chains for the log (see `DbmTrainer`), tensors without dimensions.

    Args:
        model: the energy.
        batch: standardised vectors, `(batch, query_size)` and `(batch, response_size)`.
        progress: the period and its chains.
        mean_field_steps: steps of the mean field in training.
        model_pairs: queries and responses of the chains, or the reconstructions of a pair of RBMs; for joint training.
    """
    weights, period = Weights(model), progress.period
    visible = weights.visible(*batch)
    top_couplings = weights.top if weights.second is None else weights.second.couplings
    assert period is not None
    measured = {
        "period": visible.new_tensor(PERIODS.index(period)), "weight_norm_visible": weights.couplings.norm(),
        "weight_norm_top": top_couplings.norm(),
    }  # fmt: skip
    if period == "bottom":
        error = weights.visible_mean(bottom_means(model, visible), None) - visible
        return {**measured, "reconstruction": error.square().mean()}
    if period == "top":
        hidden = bottom_means(model, visible, progress.bottom_bias)
        top = torch.sigmoid(weights.top_input(None, hidden))
        error = torch.sigmoid(2 * weights.from_top(top) + weights.hidden_bias) - hidden
        return {**measured, "reconstruction": error.square().mean()}
    assert model_pairs is not None
    data = measure_pairs(model, *batch)
    trained = model.mean_field(*batch, steps=mean_field_steps, tolerance=0)
    gap = model.free_energy(*model_pairs).mean() - data.free_energy.mean()
    return {
        **measured, "reconstruction": data.reconstruction.mean(), "free_energy": data.free_energy.mean(),
        "free_energy_gap": gap, "residual": trained.residual.mean(), "mean_field_steps": data.steps.float().mean(),
    }  # fmt: skip
