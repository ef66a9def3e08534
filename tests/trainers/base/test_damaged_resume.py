"""Damaged checkpoints: a resumed training ends as it would have without the damage, or refuses the checkpoint.

What no reader can tell is let through: another number where a number stands, in a state or among the weights.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ...damage import BYTE_WAYS, Damage, damaged

SHORT, LONG = 4, 250  # of each of the four
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
NAMES = ("mle", "lora", "dbm", "localgan")
# Without these a resumed training would be another one.
NEEDED = (
    "config.json", "model.safetensors", "adapter_model.safetensors", "trainer_state.json", "optimizer.pt",
    "scheduler.pt", "rng_state.pth", "dbm_chains.safetensors",
)  # fmt: skip


def may_change(damage: Damage) -> bool:
    """Whether the damage may change the course of a training without a sign."""
    return damage.way in ("flip", "value", "zeros") or damage.after is None


@st.composite
def damages(draw, checkpoint: Path) -> Damage:
    """One file of the checkpoint cut, flipped, emptied, removed, or replaced by another."""
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    path = draw(st.sampled_from(paths))
    content = path.read_bytes()
    way = draw(st.sampled_from([*BYTE_WAYS, "value"]))
    values = json.loads(content) if way == "value" and path.suffix == ".json" else None
    if isinstance(values, dict):
        name = draw(st.sampled_from(sorted(values)))
        values[name] = draw(st.sampled_from([None, "x", -1, 0, 10**6, 0.5, [], [1], {}, {"a": 1}, True]))
        after = json.dumps(values).encode()
    else:
        after = damaged(draw, way, content, [other for other in paths if other.suffix != path.suffix])
    way = way if after is not None else "remove"
    return Damage(str(path.relative_to(checkpoint)), way, content, after, NEEDED)


Resume = Callable[[Path], tuple[dict[str, torch.Tensor], list[dict]]]


def check_damage(resume: Resume, checkpoint: Path, expected: tuple, damage: Damage):
    """Resumes from a damaged copy of a checkpoint, and compares the end with that of the whole one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run" / checkpoint.name
        shutil.copytree(checkpoint, folder)
        damage.apply(folder)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        try:
            weights, history = resume(folder)
        except (OSError, ValueError) as error:
            message = str(error)
            assert str(folder) in message and len(message) < 3_000, message
            assert {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()} == before
            return
        assert len(history) > 0 and weights.keys() == expected[0].keys()
        if not all(torch.equal(weights[name], expected[0][name]) for name in weights):
            assert may_change(damage) and not damage.is_told(), f"resumed with {damage.file} {damage.way}"


def examples(count: int):
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=count == SHORT, suppress_health_check=QUIET
    )


@pytest.fixture
def resumes(tmp_path, family, adapted_t5, trainer, pairs, energy_trainer, tiny_energy, vectors, players):
    """`resumes(name)`: a function that trains on from a checkpoint, and a checkpoint after its first step."""

    def build(name: str) -> tuple[Resume, Path]:
        options = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}

        def make(folder: Path):
            own = {**options, "output_dir": str(folder)}
            if name == "mle":
                return trainer(family("rnn_seq2seq"), pairs(8), **own)
            if name == "lora":
                return trainer(adapted_t5(), pairs(8), **own)
            if name == "dbm":
                return energy_trainer(tiny_energy(), vectors(16), **own)
            return players(family("rnn_seq2seq"), pairs(8), **own)

        def resume(checkpoint: Path):
            run = make(checkpoint.parent)
            run.train(resume_from_checkpoint=str(checkpoint))
            weights = {key: tensor.clone() for key, tensor in run.model.state_dict().items()}
            return weights, run.state.log_history

        make(tmp_path / name).train()
        return resume, tmp_path / name / "checkpoint-1"

    return build


def try_damages(resume: Resume, checkpoint: Path, count: int):
    place = checkpoint.parent.parent / "whole"
    shutil.copytree(checkpoint, place / checkpoint.name)
    expected = resume(place / checkpoint.name)

    @examples(count)
    @given(damages(checkpoint))
    def tried(damage):
        check_damage(resume, checkpoint, expected, damage)

    tried()


@pytest.mark.parametrize("name", NAMES)
def test_a_training_goes_on_from_a_damaged_checkpoint_as_it_was_or_refuses_it(name, resumes):
    try_damages(*resumes(name), SHORT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_damaged_checkpoints_are_resumed_as_they_were_or_refused(name, resumes):
    try_damages(*resumes(name), LONG)
