"""What the benchmark of gradients says of vectors whose mean is known."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from localgan_gradients import Moments, cosine  # noqa: E402


def test_signal_and_cosine_are_those_of_the_means_and_noise_does_not_raise_them():
    # Means of length 2 and 1 at an angle of 60 degrees; noise of length 10 on both, half of it in common.
    noise = torch.Generator().manual_seed(0)
    size, batches = 50, 5_000
    first, second = torch.zeros(size), torch.zeros(size)
    first[0], second[0], second[1] = 2.0, 0.5, 0.75**0.5
    own, other = Moments(), Moments()
    for _ in range(batches):
        shared, apart = (torch.randn(size, generator=noise) * (50 / size) ** 0.5 for _ in range(2))
        own.add(first + shared + apart, second + shared)
        other.add(second + shared, second + shared)
    assert own.norm == pytest.approx((4 + 100) ** 0.5, rel=0.01)
    # Standard error of the first: twice its length times the noise along it, 1.4, over the root of the batches.
    assert own.signal_squared == pytest.approx(4.0, abs=5 * 0.08)
    assert other.signal_squared == pytest.approx(1.0, abs=5 * 0.03)
    assert cosine(own, other) == pytest.approx(0.5, abs=0.05)
    assert cosine(other, other) == pytest.approx(1.0)


def test_means_that_chance_hides_have_no_cosine():
    own, other = Moments(), Moments()
    for sign in (1.0, -1.0):
        own.add(torch.tensor([sign, 0.0]), torch.tensor([1.0, 0.0]))
        other.add(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert own.signal_squared == -1.0 and cosine(own, other) != cosine(own, other)
