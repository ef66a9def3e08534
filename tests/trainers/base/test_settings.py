"""Which of several values a setting has: what was given, what the preset says, the default of the field."""

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from hf_localgan.recipes import RecipeParser
from hf_localgan.trainers import LocalGanConfig
from hf_localgan.trainers.base.settings import SharedSettings


@dataclass
class Settings(SharedSettings):
    presets: ClassVar = {"plain": {}, "loud": {"volume": 9, "learning_rate": 1.0}}

    preset: str = field(default="plain", metadata={"help": "Of these settings."})
    volume: int = field(default=3, metadata={"help": "How loud."})


@pytest.fixture
def settings(tmp_path):
    """`settings(**fields)`: a configuration with a preset."""
    return lambda **fields: Settings(str(tmp_path), use_cpu=True, **fields)


def test_a_preset_changes_defaults_and_nothing_else(settings):
    assert (settings().volume, settings().learning_rate) == (3, 5e-5)
    assert (settings(preset="loud").volume, settings(preset="loud").learning_rate) == (9, 1.0)
    mixed = settings(preset="loud", volume=3)  # the default of the field, and yet given
    assert (mixed.volume, mixed.learning_rate) == (3, 1.0)
    assert settings(preset="loud", learning_rate=5e-5).learning_rate == 5e-5
    with pytest.raises(ValueError, match='`preset` must be one of plain, loud, got "quiet"'):
        settings(preset="quiet")


def test_the_printed_radius_is_only_a_default_of_the_printed_preset(tmp_path):
    paper = LocalGanConfig(str(tmp_path), use_cpu=True, preset="paper")
    assert paper.radial_scale == "center" and paper.max_soft_length == 30
    mixed = LocalGanConfig(str(tmp_path), use_cpu=True, preset="paper", radial_scale="spread", mismatched_weight=1.0)
    assert (mixed.radial_scale, mixed.mismatched_weight, mixed.relaxation) == ("spread", 1.0, "softmax")


@pytest.mark.parametrize("where", ["file", "options", "both"])
def test_a_value_of_a_file_or_an_option_wins_whatever_it_equals(where, tmp_path):
    file, options = {"preset": "paper", "output_dir": str(tmp_path), "use_cpu": True}, []
    (file if where == "file" else {}).update(radial_scale="spread")
    if where == "options":
        options = ["--radial_scale", "spread"]
    if where == "both":
        file["radial_scale"], options = "abs_center", ["--radial_scale=spread"]
    path = tmp_path / "config.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in file.items()))
    (config,) = RecipeParser(LocalGanConfig).read([str(path), *options])
    assert config.radial_scale == "spread" and config.teacher_forcing_weight == 0.0


def test_copies_keep_their_values(settings):
    first = settings(preset="loud", volume=3)
    for second in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first)), replace(first, seed=7)):
        assert (second.volume, second.learning_rate, second.preset) == (3, 1.0, "loud")
