"""Responses to one query in the order of an energy or of a discriminator, as a table."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import nn

from hf_localgan.data.padding import pad_ids
from hf_localgan.evaluation.energy.ranking import rank_responses
from hf_localgan.recipes.parts import load_discriminator, load_energy

ENERGY_ORDERS = ("difference", "free_energy", "radius")
ORDERS = (*ENERGY_ORDERS, "discriminator")


@torch.no_grad()
def rank_table(model: str, query: str, responses: Sequence[str], *, by: str, device: str | None = None) -> Table:
    """Ranks responses, best first.

    Args:
        model: folder or Hub id of an energy or discriminator, or the folder of a generator that has one beside it.
        query: a text.
        responses: texts, at least one.
        by: one of `ORDERS`; free energies, their differences and radii are in nats, the lowest first; the
            discriminator's logits have the largest first.
        device: such as "cuda:0"; by default a GPU if there is one.

    Returns:
        A row for each response: rank, scores, text.

    Raises:
        ValueError: for another `by`, no response, and a model of another kind.
        OSError: if there is no model.
    """
    if by not in ORDERS:
        raise ValueError(f'`by` must be one of {", ".join(ORDERS)}, got "{by}".')
    if not responses:
        raise ValueError("There is no response to rank. Give at least one.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = "discriminator" if by == "discriminator" else "energy"
    inside = Path(model) / name
    place = str(inside) if inside.is_dir() else model
    columns: tuple[str, ...]
    rows: list[tuple[str, tuple[float, ...]]]
    if by == "discriminator":
        columns, rows = ("logit",), _by_discriminator(place, query, responses, device)
    else:
        columns, rows = ENERGY_ORDERS, _by_energy(place, query, responses, by, device)
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for column in ("rank", *columns):
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("response", overflow="fold")
    for rank, (text, values) in enumerate(rows, 1):
        table.add_row(str(rank), *(map(_number, values)), escape(text))
    return table


def _number(value: float) -> str:
    """Two digits after the point, or a power of ten where they would fill the line: untrained energies are huge."""
    return f"{value:.2f}" if not math.isfinite(value) or abs(value) < 1e9 else f"{value:.6g}"


def _by_discriminator(
    place: str, query: str, responses: Sequence[str], device: str
) -> list[tuple[str, tuple[float, ...]]]:
    discriminator, tokenizer = load_discriminator(place)
    cast(nn.Module, discriminator).to(device).eval()
    ids = tokenizer([query], return_tensors="pt", verbose=False).to(device)
    labels = pad_ids(tokenizer(text_target=list(responses), verbose=False).input_ids).to(device)
    features = discriminator.query_features(ids["input_ids"], ids["attention_mask"])
    features = features.expand(len(responses), *features.shape[1:])
    logits = discriminator.score(features, discriminator.response_features(labels)).tolist()
    rows = [(text, (logit,)) for text, logit in zip(responses, logits, strict=True)]
    return sorted(rows, key=lambda row: -row[1][0])


def _by_energy(
    place: str, query: str, responses: Sequence[str], by: str, device: str
) -> list[tuple[str, tuple[float, ...]]]:
    energy, tokenizer = load_energy(place)
    cast(nn.Module, energy).to(device).eval()
    ranked = rank_responses(energy, tokenizer, query, responses)
    ranked.sort(key=lambda response: (math.isnan(response.radius), getattr(response, by)))
    return [(response.text, tuple(getattr(response, column) for column in ENERGY_ORDERS)) for response in ranked]
