"""What is measured of a deep Boltzmann machine while it trains, and on a split."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import EvalLoopOutput

from hf_localgan.metrics.energy import center_cosine, group_means, matching_accuracy, other_query_responses
from hf_localgan.models.dbm import DbmModel, LogPartition, Weights
from hf_localgan.models.dbm.contrastive_dbm import bottom_means
from hf_localgan.trainers.base.randomness import keyed_seed
from hf_localgan.trainers.dbm.data import standardised
from hf_localgan.trainers.dbm.stages import STAGES, StageProgress

AT_ONCE = 1024  # pairs
SEED = 0  # of the responses of other queries


class PairMeasures(NamedTuple):
    """Of each pair, shape `(pairs,)`.

    Attributes:
        free_energy: `F~(q, r)`, nats.
        reconstruction: squared error per dimension of the visible units' means given the binary units' means.
        residual: of the mean field, how far the farthest mean moved in its last step.
        steps: of the mean field.
    """

    free_energy: Tensor
    reconstruction: Tensor
    residual: Tensor
    steps: Tensor


class LogLikelihood(NamedTuple):
    """Mean log-density of standardised vectors, nats: `-F - ln Z`, and its parts.

    It is a bound from neither side: the bound `F~ >= F` makes it too low, and an estimate of `ln Z`, too low on
    average, too high. That of the vectors as they were given is smaller by the sum of both scalers' `ln std`, and
    where they whiten larger by `ln |det|` of both matrices.

    Attributes:
        log_likelihood: mean over the pairs.
        log_likelihood_per_dimension: that divided by the number of dimensions of `[q; r]`.
        free_energy: mean over the pairs.
        log_partition: `ln Z`.
        log_partition_error: its standard error.
        log_partition_ess: effective sample size of the chains; with a few, the error cannot be trusted.
        pairs: how many.
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
    dimension) and `eval_residual` (of the mean field at the model's own tolerance). Over the first `matching_pairs`
    pairs `eval_matching`, the share whose score `F(q, r) - F(bq, r)` (`bq`: the queries' part of the visible bias) is
    lower for their response than for a random one of another query, ties counting one half; and `eval_center_cosine`,
    the mean cosine of the centre `rc(q)` with the mean of the query's responses. Queries with equal vectors are one.
    Predictions, also for `compute_metrics`, are the free energies.
    """

    @torch.no_grad()
    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        measures, vectors, kept = [], [], 0
        limit = self.args.matching_pairs or math.inf
        with self._as_joint():
            for query, response in self._vectors(dataloader):
                measured = torch.stack([one.float() for one in measure_pairs(self.model, query, response)], dim=1)
                # Gathering drops the pairs that were repeated to fill the last batch of all processes.
                measures.append(self.accelerator.gather_for_metrics(measured).double().cpu())
                if kept < limit:
                    both = self.accelerator.gather_for_metrics(torch.cat([query, response], dim=1))
                    vectors.append(both[: int(min(len(both), limit - kept))])
                    kept += len(vectors[-1])
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            measures = PairMeasures(*torch.cat(measures).T)
            size = self.model.config.query_size
            query, response = torch.cat(vectors).tensor_split([size], dim=1)
            metrics = {
                name: getattr(measures, name).mean().item() for name in ("free_energy", "reconstruction", "residual")
            }
            metrics |= measure_matching(self.model, query, response, self._spread)
        energies = measures.free_energy.numpy()
        if self.compute_metrics is not None:
            metrics |= self.compute_metrics(EvalPrediction(predictions=energies, label_ids=None))
        metrics = {
            name if name.startswith(f"{metric_key_prefix}_") else f"{metric_key_prefix}_{name}": value
            for name, value in metrics.items()
        }
        return EvalLoopOutput(energies, None, metrics, len(energies))

    @torch.no_grad()
    def log_likelihood(
        self, dataset=None, *, chains: int | None = None, temperatures: int | None = None, seed: int = 0
    ) -> LogLikelihood:
        """Mean log-likelihood of a split, `ln Z` by annealed importance sampling; the chains are shared by processes.

        Args:
            dataset: as `eval_dataset`, which it is by default.
            chains, temperatures: of the sampling; by default `ais_chains` and `ais_temperatures`.
            seed: of its random numbers.
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
            energies = []
            for query, response in self._vectors(self.get_eval_dataloader(dataset)):
                energies.append(self.accelerator.gather_for_metrics(self.model.free_energy(query, response)))
        energies = torch.cat(energies).double()
        mean = energies.mean().item()
        value, dimensions = -mean - partition.value, len(self.model.visible_bias)
        return LogLikelihood(
            value, value / dimensions, mean, partition.value, partition.standard_error,
            partition.effective_sample_size, len(energies),
        )  # fmt: skip

    def _vectors(self, dataloader):
        """Standardised vectors of each batch."""
        for scaler in (self.model.query_scaler, self.model.response_scaler):
            if not scaler.is_fitted:
                raise ValueError(
                    "The model's scalers are not fitted yet, so that it cannot be evaluated. Train it first, or call "
                    "`trainer.fit_scalers()`."
                )
        self.model.eval()
        self.callback_handler.eval_dataloader = dataloader
        empty = True
        for batch in dataloader:
            empty = False
            yield standardised(self.model, self._prepare_inputs(batch))
        if empty:
            raise ValueError("There are no pairs to evaluate on. Look at the report of `load_pairs` for the reasons.")

    def _spread(self, function: Callable[[int, int], Tensor], number: int) -> Tensor:
        """Joins `function(begin, end)` over ranges of `number` rows, dealt out to all processes."""
        ranges = [(begin, min(begin + AT_ONCE, number)) for begin in range(0, number, AT_ONCE)]
        own = ranges[self.args.process_index :: self.args.world_size]
        parts = [function(*one) for one in own]
        if self.args.world_size == 1:
            return torch.cat(parts)
        like = parts[0] if parts else function(0, 1)
        joined = like.new_zeros(number, *like.shape[1:])
        for (begin, end), values in zip(own, parts, strict=True):
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
def measure_matching(model: DbmModel, query: Tensor, response: Tensor, spread: Callable) -> dict[str, float]:
    """`matching` and `center_cosine` (see `DbmEvaluationMixin`); neither where there is one query alone.

    Args:
        model: the energy.
        query, response: standardised vectors of all pairs that are measured.
        spread: `spread(function, number)` joins `function(begin, end)` over ranges of `number` rows.
    """
    groups = query_groups(query)
    if groups.max() < 1:
        return {}
    other = torch.from_numpy(other_query_responses(groups, np.random.default_rng(SEED))).to(query.device)
    neutral = model.visible_bias[: query.shape[1]]

    def energies(queries: Tensor, responses: Tensor) -> Tensor:
        return spread(lambda begin, end: model.free_energy(queries[begin:end], responses[begin:end]), len(queries))

    prior = energies(neutral.expand(len(query), -1), response)
    true, false = energies(query, response) - prior, energies(query, response[other]) - prior[other]
    queries = query[torch.from_numpy(np.unique(groups, return_index=True)[1]).to(query.device)]
    centers = spread(lambda begin, end: model.center(queries[begin:end]), len(queries))
    true, false, response, centers = (one.double().cpu().numpy() for one in (true, false, response, centers))
    return {
        "matching": matching_accuracy(true, false, groups, resamples=1).value,
        "center_cosine": center_cosine(centers, group_means(response, groups), resamples=1).true.value,
    }


def query_groups(query: Tensor) -> np.ndarray:
    """Numbers the different queries by their vectors, in the order of their first pair; shape `(pairs,)`."""
    numbers: dict[bytes, int] = {}
    rows = query.cpu().numpy()
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], dtype=np.int64)


@torch.no_grad()
def measure_training(
    model: DbmModel,
    batch: tuple[Tensor, Tensor],
    progress: StageProgress,
    mean_field_steps: int,
    of_model: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """What is logged of a batch and of the chains of this process (see `DbmTrainer`), tensors without dimensions.

    Args:
        model: as it is now.
        batch: standardised vectors.
        progress: the stage and its chains.
        mean_field_steps: of training.
        of_model: queries and responses of the chains, or what a pair of RBMs has reconstructed; for joint training.
    """
    weights, stage = Weights(model), progress.stage
    visible = weights.visible(*batch)
    second = weights.top if weights.second is None else weights.second
    measured = {
        "stage": visible.new_tensor(STAGES.index(stage)), "weight_norm_visible": weights.couplings.norm(),
        "weight_norm_top": second.norm(),
    }  # fmt: skip
    if stage == "bottom":
        error = weights.visible_mean(bottom_means(model, visible), None) - visible
        return {**measured, "reconstruction": error.square().mean()}
    if stage == "top":
        hidden = bottom_means(model, visible, progress.bottom_bias)
        top = torch.sigmoid(weights.top_input(None, hidden))
        error = torch.sigmoid(2 * weights.from_top(top) + weights.hidden_bias) - hidden
        return {**measured, "reconstruction": error.square().mean()}
    of_data = measure_pairs(model, *batch)
    trained = model.mean_field(*batch, steps=mean_field_steps, tolerance=0)
    gap = model.free_energy(*of_model).mean() - of_data.free_energy.mean()
    return {
        **measured, "reconstruction": of_data.reconstruction.mean(), "free_energy": of_data.free_energy.mean(),
        "free_energy_gap": gap, "residual": trained.residual.mean(), "mean_field_steps": of_data.steps.float().mean(),
    }  # fmt: skip
