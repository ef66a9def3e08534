"""Measurements of a trained energy model on held-out pairs."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.evaluation.energy.features import PairFeatures, pair_features, regular_words
from hf_localgan.evaluation.energy.meaning import (
    SAFE_QUERIES,
    RadiusMeaning,
    evenly,
    greedy_answers,
    radius_meaning,
)
from hf_localgan.evaluation.energy.report import (
    ClusterPlane,
    EnergyReport,
    Gap,
    Likelihood,
    Matching,
    Radii,
)
from hf_localgan.metrics.energy import (
    center_cosine,
    group_means,
    grouped_mean,
    matching_accuracy,
    other_query_responses,
    recall_at_one,
)
from hf_localgan.metrics.energy_gap import (
    SecondOrderGap,
    cluster_spread,
    gap_by_size,
    gap_by_spread,
    second_order_gap,
)
from hf_localgan.metrics.gaussian import GaussianPairs
from hf_localgan.metrics.intervals import bootstrap_interval
from hf_localgan.models.dbm import DbmConfig, DbmModel, Weights

LARGEST_ENUMERATION = 16  # hidden units: the states of so many are enumerated
GRID = 33  # points on a side of a cluster's plane

PairRows: TypeAlias = Dataset | IterableDataset | Iterable[Mapping]  # what `pair_features` reads


class _System(NamedTuple):
    """A model of pairs: functions of standardised vectors on the CPU that return arrays.

    Attributes:
        energy: energies in nats, shape `(pairs,)`, of queries and responses, shapes `(pairs, query_size)` and
            `(pairs, response_size)`.
        center: centres, shape `(queries, response_size)`, of queries, shape `(queries, query_size)`.
        neutral: the query that carries no information, `bq`, shape `(query_size,)`.
    """

    energy: Callable[[Tensor, Tensor], np.ndarray]
    center: Callable[[Tensor], np.ndarray]
    neutral: Tensor


def evaluate_energy(
    model: DbmModel,
    train: PairRows,
    test: PairRows,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rivals: Mapping[str, DbmModel] | None = None,
    generator: PreTrainedModel | None = None,
    others: int = 9,
    max_train_pairs: int = 100_000,
    max_test_pairs: int = 10_000,
    curvature_queries: int = 200,
    clusters: int = 6,
    ais_chains: int = 100,
    ais_temperatures: int = 1000,
    resamples: int = 1000,
    batch_size: int = 1024,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> EnergyReport:
    """Measures an energy model on held-out pairs: matching, centres, Theorem 1, likelihood, reconstruction.

    `docs/dbm.md` explains each number; the functions are in `metrics.energy` and `metrics.energy_gap`. Intervals are
    over queries.

    Args:
        model: trained, with fitted scalers.
        train: training pairs, as in `pair_features`; a normal distribution is fitted on them for comparison.
        test: held-out pairs. Theorem 1 is measured on queries with several responses, where there are any.
        tokenizer: writes the queries above the plots of clusters.
        rivals: further energy models over the same vectors, such as an RBM, by name.
        generator: of the energy's tokenizer; its greedy answers are placed among the references' radii.
        others: number of responses to other queries that each true response is compared with.
        max_train_pairs, max_test_pairs: largest number of pairs, from the start of either.
        curvature_queries: number of random queries whose curvature at the centre is measured, in double precision.
        clusters: number of queries whose surroundings are computed for the plots.
        ais_chains, ais_temperatures: size of the annealed importance sampling that estimates `ln Z`.
        resamples: number of bootstrap samples.
        batch_size: pairs at a time.
        about: what identifies the run; kept in the report.
        seed: of everything that is drawn.

    Raises:
        ValueError: for less than two test queries, for the energy as printed, for rivals over other vectors, and for
            energies that are not finite.
    """
    data = pair_features(model, test, max_pairs=max_test_pairs, batch_size=batch_size)
    seen = pair_features(model, train, max_pairs=max_train_pairs, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    boot: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rivals = dict(rivals or {})
    for name, rival in rivals.items():
        _require_equal_vectors(name, rival, test, data)

    gaussians = _gaussians(seen)
    models = {_name(model): model, **rivals}
    systems = {name: _model_system(energy, batch_size) for name, energy in models.items()}
    systems |= {name: _gaussian_system(gaussian) for name, gaussian in gaussians.items()}
    own = next(iter(systems.values()))

    drawn = np.stack([other_query_responses(data.groups, rng) for _ in range(others)])
    matching = {name: _matching(system, data, drawn, boot) for name, system in systems.items()}
    queries, means = data.query[data.first], group_means(data.response.numpy(), data.groups)
    center = {name: center_cosine(system.center(queries), means, **boot) for name, system in systems.items()}
    center[f"{next(iter(systems))}, single pass"] = center_cosine(
        _centers(model, queries, "single_pass"), means, **boot
    )

    centers = torch.as_tensor(own.center(queries)).to(data.query)
    center_energies = own.energy(queries, centers)
    radii = _radii(own, data, center_energies, drawn[0], rng)
    annealing = {"chains": ais_chains, "temperatures": ais_temperatures}
    return EnergyReport(
        about={**_facts(model, data, seen), **(about or {})},
        matching=matching,
        center=center,
        positive_center=bootstrap_interval(center_energies > 0, **boot),
        center_energy=center_energies,
        gap=_gap(model, own, data, center_energies, curvature_queries, rng, boot),
        likelihood=_likelihoods(models, gaussians, data, seen, annealing, batch_size, boot),
        reconstruction=_reconstruction(model, data, centers, batch_size),
        radii=radii,
        meaning=_meaning(model, data, seen, radii.true, generator, batch_size),
        clusters=_clusters(own, data, centers, center_energies, clusters, _titles(test, data, tokenizer), rng),
        **({} if tokenizer is None else {"words": lambda tokens: str(tokenizer.decode(list(tokens)))}),
    )  # fmt: skip


# ---- systems ----


def _gaussians(seen: PairFeatures) -> dict[str, GaussianPairs]:
    """Normal distributions over the training pairs, as far as these have a covariance that is not singular."""
    gaussians = {}
    for name, shrinkage in (("Gaussian", "none"), ("Gaussian, Ledoit-Wolf", "ledoit_wolf")):
        try:
            gaussians[name] = GaussianPairs.fit(seen.query.numpy(), seen.response.numpy(), shrinkage=shrinkage)
        except ValueError as error:  # a report without one is better than none after hours of training
            warnings.warn(f"{name} is left out of the report. {error}", stacklevel=3)
    return gaussians


def _model_system(model: DbmModel, batch_size: int) -> _System:
    def energy(query: Tensor, response: Tensor) -> np.ndarray:
        parts = zip(query.split(batch_size), response.split(batch_size), strict=True)
        with torch.no_grad():
            energies = [model.free_energy(q.to(model.device), r.to(model.device)).double().cpu() for q, r in parts]
        return torch.cat(energies).numpy()

    weights = Weights(model)
    silent = (weights.couplings.new_zeros(1, size) for size in (model.config.hidden_size, model.config.top_size))
    bias = weights.visible_mean(*silent)[0].detach().cpu()  # for a pair of RBMs the mean of both
    return _System(energy, lambda query: _centers(model, query), bias[: model.config.query_size])


def _gaussian_system(gaussian: GaussianPairs) -> _System:
    neutral = torch.from_numpy(gaussian.mean[: gaussian.query_size])
    return _System(
        lambda query, response: -gaussian.log_likelihood(query.numpy(), response.numpy()),
        lambda query: gaussian.center(query.numpy()),
        neutral,
    )


def _centers(model: DbmModel, query: Tensor, method: str = "mean_field", batch_size: int = 4096) -> np.ndarray:
    parts = [model.center(part.to(model.device), method).cpu() for part in query.split(batch_size)]
    return torch.cat(parts).double().numpy()


def _name(model: DbmModel) -> str:
    if model.config.energy == "rbm_pair":
        return "pair of RBMs"
    return "DBM" if model.config.top_size else "RBM"


def _require_equal_vectors(name: str, rival: DbmModel, test: PairRows, data: PairFeatures):
    first = pair_features(rival, test, max_pairs=min(100, len(data.groups)))
    for side in ("query", "response"):
        own, other = getattr(data, side)[: len(first.groups)], getattr(first, side)
        if own.shape != other.shape or not torch.allclose(own, other.to(own), atol=1e-4):
            raise ValueError(
                f"The rival {name!r} sees other vectors of the same pairs: its word vectors or its scalers are not "
                "those of the model. Train both on one corpus with one tokenizer and the same word vectors."
            )


# ---- measurements ----


def _matching(system: _System, data: PairFeatures, drawn: np.ndarray, boot: dict) -> Matching:
    true = system.energy(data.query, data.response)
    neutral = system.energy(system.neutral.to(data.query).expand_as(data.query), data.response)  # F(bq, r)
    other = np.stack([system.energy(data.query, data.response[rows]) for rows in drawn], axis=1)
    difference, other_difference = true - neutral, other - neutral[drawn].T
    return Matching(
        difference=matching_accuracy(difference, other_difference, data.groups, **boot),
        energy=matching_accuracy(true, other, data.groups, **boot),
        recall_at_1=recall_at_one(difference, other_difference, data.groups, **boot),
        candidates=1 + len(drawn),
    )


def _radii(
    system: _System, data: PairFeatures, center_energies: np.ndarray, drawn: np.ndarray, rng: np.random.Generator
) -> Radii:
    """Radii of true responses, of responses to other queries, and of vectors that are no responses."""
    shuffled = torch.from_numpy(rng.permuted(data.response.numpy(), axis=0))
    noise = torch.from_numpy(rng.standard_normal(data.response.shape)).to(data.response)
    others = (data.response, data.response[drawn], shuffled, noise)
    return Radii(*(system.energy(data.query, vectors) - center_energies[data.groups] for vectors in others))


def _meaning(
    model: DbmModel,
    data: PairFeatures,
    seen: PairFeatures,
    radii: np.ndarray,
    generator: PreTrainedModel | None,
    batch_size: int,
) -> RadiusMeaning | None:
    """What the radius says of length, of information and of safe answers; `None` for vectors without tokens."""
    if data.words is None or data.tokens is None or seen.words is None:
        return None
    rows = data.first[evenly(len(data.first), SAFE_QUERIES)]
    greedy = None
    if generator is not None:
        generator.to(model.device)  # type: ignore[arg-type]  # the stubs lose `self` in a decorator
        greedy = regular_words(model, greedy_answers(generator, [data.tokens[row] for row in rows]))
    return radius_meaning(
        model, data.query, radii, data.words, seen.words, greedy=greedy, greedy_rows=rows.tolist(),
        batch_size=batch_size,
    )  # fmt: skip


def _gap(
    model: DbmModel,
    system: _System,
    data: PairFeatures,
    center_energies: np.ndarray,
    curvature_queries: int,
    rng: np.random.Generator,
    boot: Mapping[str, Any],
) -> Gap:
    energies, spreads = system.energy(data.query, data.response), cluster_spread(data.response.numpy(), data.groups)
    signed = group_means(energies, data.groups) - center_energies
    several = np.flatnonzero(~np.isnan(spreads))
    chosen = np.sort(rng.permutation(several)[:curvature_queries])
    parts, predicted = None, np.full(len(signed), np.nan)
    if len(chosen):
        parts = _second_order(model, data, chosen)
        predicted[chosen] = parts.total
    return Gap(
        by_size=gap_by_size(energies, center_energies, data.groups, **boot),
        by_spread=gap_by_spread(np.abs(signed), spreads, predicted, **boot) if len(several) else None,
        signed=bootstrap_interval(signed, **boot),
        measured=bootstrap_interval(signed[chosen], **boot) if len(chosen) else None,
        second_order=parts,
        gaps=np.abs(signed),
        spreads=spreads,
        predicted=predicted,
    )


def _second_order(model: DbmModel, data: PairFeatures, chosen: np.ndarray) -> SecondOrderGap:
    """The second-order gap of some queries, on a copy of the model in double precision."""
    device = torch.device("cpu") if model.device.type == "mps" else model.device  # MPS has no float64
    config = copy.deepcopy(model.config)
    assert isinstance(config, DbmConfig)
    config.vocab_size = None
    with torch.device("meta"):  # nothing is drawn
        exact = type(model)(config).eval()
    kept = {name: values for name, values in model.state_dict().items() if not name.startswith("word_vectors.")}
    exact.load_state_dict({name: values.to(device, copy=True) for name, values in kept.items()}, assign=True)
    exact.double().requires_grad_(False)
    steps, tolerance = 10 * config.mean_field_steps, 1e-10

    def free_energy(query: Tensor, response: Tensor) -> Tensor:
        return exact.free_energy(query, response, exact.mean_field(query, response, steps=steps, tolerance=tolerance))

    rows = np.flatnonzero(np.isin(data.groups, chosen))
    queries = data.query[data.first[chosen]].to(device, torch.float64)
    responses = data.response[rows].to(device, torch.float64)
    centers = exact.center(queries, steps=steps, tolerance=tolerance)
    return second_order_gap(free_energy, queries, centers, responses, np.searchsorted(chosen, data.groups[rows]))


def _likelihoods(
    models: Mapping[str, DbmModel],
    gaussians: Mapping[str, GaussianPairs],
    data: PairFeatures,
    seen: PairFeatures,
    annealing: Mapping[str, Any],
    batch_size: int,
    boot: Mapping[str, Any],
) -> dict[str, Likelihood]:
    """Log-likelihoods of all systems, and each model's advantage over the better normal distribution."""
    values: dict[str, np.ndarray] = {}
    normal: dict[str, Likelihood] = {}
    first = slice(len(data.groups))  # as many training pairs as test pairs
    for name, gaussian in gaussians.items():
        values[name] = gaussian.log_likelihood(data.query.numpy(), data.response.numpy())
        normal[name] = Likelihood(
            test=grouped_mean(values[name], data.groups, **boot),
            train=float(gaussian.log_likelihood(seen.query[first].numpy(), seen.response[first].numpy()).mean()),
            dimensions=data.query.shape[1] + data.response.shape[1],
        )
    best = max(gaussians, key=lambda name: normal[name].test.value, default=None)
    likelihoods = {}
    for name, model in models.items():
        generator = torch.Generator(model.device).manual_seed(boot["seed"])
        exact = model.config.hidden_size <= LARGEST_ENUMERATION and model.config.energy != "rbm_pair"
        partition = None if exact else model.log_partition(**annealing, generator=generator)
        log_z = model.exact_log_partition().item() if partition is None else partition.value

        def energies(pairs: PairFeatures, rows: slice, method: str, model=model, generator=generator) -> np.ndarray:
            settings = {"generator": generator} if method == "sampled_free_energy" else {}
            parts = zip(pairs.query[rows].split(batch_size), pairs.response[rows].split(batch_size), strict=True)
            with torch.no_grad():
                batches = [getattr(model, method)(q.to(model.device), r.to(model.device), **settings) for q, r in parts]
            return torch.cat(batches).double().cpu().numpy()

        method = "exact_free_energy" if exact else "sampled_free_energy"
        values[name] = -energies(data, slice(None), method) - log_z
        likelihoods[name] = Likelihood(
            test=grouped_mean(values[name], data.groups, **boot),
            train=float(-energies(seen, first, method).mean() - log_z),
            dimensions=data.query.shape[1] + data.response.shape[1],
            bound=float(-energies(data, slice(None), "free_energy").mean() - log_z),
            log_partition=log_z,
            log_partition_error=0.0 if partition is None else partition.standard_error,
            effective_sample_size=None if partition is None else partition.effective_sample_size,
            chains=None if exact else annealing["chains"],
            advantage=None if best is None else grouped_mean(values[name] - values[best], data.groups, **boot),
        )
    return likelihoods | normal


def _reconstruction(model: DbmModel, data: PairFeatures, centers: Tensor, batch_size: int) -> dict[str, float]:
    """Mean squared errors per dimension; that of the mean vector is about 1, for vectors are standardised."""
    weights, errors = Weights(model), []
    steps, residuals = [], []
    for query, response in zip(data.query.split(batch_size), data.response.split(batch_size), strict=True):
        query, response = query.to(model.device), response.to(model.device)
        means = model.mean_field(query, response)
        with torch.no_grad():
            mean = weights.visible_mean(means.hidden, means.top)
            errors.append((mean - weights.visible(query, response)).square().cpu())
        steps.append(means.steps.cpu())
        residuals.append(means.residual.cpu())
    error, size = torch.cat(errors).mean(dim=0), model.config.query_size
    index = torch.from_numpy(data.groups)
    return {
        "query": float(error[:size].mean()),
        "response": float(error[size:].mean()),
        "response_from_query": float((data.response - centers[index]).square().mean()),
        "response_from_nothing": float(data.response.square().mean()),
        "mean_field_steps": float(torch.cat(steps).double().mean()),
        "mean_field_residual": float(torch.cat(residuals).max()),
    }


# ---- pictures of clusters ----


def _clusters(
    system: _System,
    data: PairFeatures,
    centers: Tensor,
    center_energies: np.ndarray,
    number: int,
    titles: Sequence[str] | None,
    rng: np.random.Generator,
) -> list[ClusterPlane]:
    """Surroundings of the responses to queries that are evenly spaced over those with at least three, if there are."""
    counts = np.bincount(data.groups)
    candidates = np.flatnonzero(counts >= min(3, counts.max()))
    if counts.max() < 2 or data.response.shape[1] < 2:
        return []
    number = min(number, len(candidates))
    chosen = candidates[np.arange(number) * len(candidates) // number]
    background = rng.permutation(len(data.groups))[:200]
    planes = []
    for index in chosen:
        own = data.response[np.flatnonzero(data.groups == index)] - centers[index]
        axes = torch.linalg.svd(own, full_matrices=True).Vh[:2]  # principal axes about the centre
        inside = (own @ axes.T).numpy()
        side = 1.25 * np.abs(inside).max() + 1e-6
        ticks = torch.linspace(-side, side, GRID, dtype=own.dtype)
        down, across = torch.meshgrid(ticks, ticks, indexing="ij")
        points = across.reshape(-1, 1) * axes[0] + down.reshape(-1, 1) * axes[1] + centers[index]
        query = data.query[data.first[index]].expand(len(points), -1)
        radii = system.energy(query, points) - center_energies[index]
        planes.append(
            ClusterPlane(
                title=titles[index] if titles else f"query {index}",
                responses=inside,
                others=(
                    (data.response[background[data.groups[background] != index]] - centers[index]) @ axes.T
                ).numpy(),
                ticks=ticks.numpy(),
                radii=radii.reshape(GRID, GRID),
                share=float((inside**2).sum() / max(float(own.square().sum()), 1e-12)),
            )
        )
    return planes


def _titles(test: PairRows, data: PairFeatures, tokenizer: PreTrainedTokenizerBase | None) -> list[str] | None:
    if tokenizer is None or not hasattr(test, "__getitem__"):  # the rows of a stream are gone
        return None
    rows = [test[int(row)] for row in data.first]
    return [str(tokenizer.decode(row["input_ids"], skip_special_tokens=True)).strip() for row in rows]


def _facts(model: DbmModel, data: PairFeatures, seen: PairFeatures) -> dict[str, Any]:
    config = model.config
    return {
        "energy": config.energy,
        "visible_std": config.visible_std,
        "pooling": config.pooling,
        "sizes": [config.query_size + config.response_size, config.hidden_size, config.top_size],
        "train_pairs": len(seen.groups),
        "test_pairs": len(data.groups),
        "test_queries": int(data.groups.max()) + 1,
        "pairs_without_a_word": data.without_words,
    }
