"""`recipes/raml_theory.py`: its pictures, and the numbers they show."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def theory():
    """The recipe as a module."""
    spec = importlib.util.spec_from_file_location("raml_theory_recipe", ROOT / "recipes" / "raml_theory.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_draws_small_pictures_and_prints_figure_1(theory, tmp_path, capsys):
    theory.main(tmp_path / "pictures")
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == [
        "raml_double_counting.png", "raml_edits.png", "raml_objectives.png", "raml_payoff.png",
    ]  # fmt: skip
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 80_000
    printed = capsys.readouterr().out
    assert "cost 1 + ln v, tau 0.6: 0.49 edits, P(0) = 0.608" in printed
    assert "cost 1 + ln v, tau 0.9: 7.62 edits, P(0) = 0.000" in printed
    assert "cost 1, tau 0.9: 39.96 edits" in printed


@pytest.mark.parametrize(
    ("length", "vocab_size", "max_edits", "expected"),
    [(2, 3, 4, (0.057, 0.150)), (2, 5, 3, (0.026, 0.094))],
)
def test_the_distance_of_equation_11_from_the_exact_distribution(theory, length, vocab_size, max_edits, expected):
    # Found by listing every string of the vocabulary; here one string stands for all of its kind.
    distances = theory.double_counting(length, (vocab_size,), (0.6, 0.9), max_edits)
    np.testing.assert_allclose(distances, [expected], atol=5e-4)


def test_one_string_of_each_kind(theory):
    # Of a reference with the one token 0: "", 0, 1, and 00, 01, 10, 11, 12, where 1 and 2 stand for any others.
    kinds = sorted(map(tuple, theory._kinds(1, 2)))
    assert kinds == [(), (0,), (0, 0), (0, 1), (1,), (1, 0), (1, 1), (1, 2)]
