"""How attention walks, by hand."""

import math

import pytest
import torch

from hf_localgan.functional.attention import attention_forward, attention_peak, guided_attention


def looks(*peaks, places=10, weight=0.7):
    rest = (1 - weight) / (places - 1)
    return torch.stack([torch.full((places,), rest).index_fill(0, torch.tensor(peak), weight) for peak in peaks])[None]


def test_moves_by_hand():
    # peaks 0 2 2 9 3 5: moves +2, 0, +7, -6, +2; with a reach of 3 two of five move on
    attention = looks(0, 2, 2, 9, 3, 5)
    every = torch.ones(1, 6, dtype=torch.bool)
    assert attention_forward(attention, every, reach=3) == pytest.approx(2 / 5)
    assert attention_forward(attention, every, reach=7) == pytest.approx(3 / 5)
    assert attention_peak(attention, every) == pytest.approx(0.7)


def test_steps_behind_the_end_do_not_count():
    attention = looks(0, 2, 9, 3)
    counted = torch.tensor([[True, True, False, False]])
    assert attention_forward(attention, counted, reach=3) == 1.0
    attention[:, 2:] = 1.0
    assert attention_peak(attention, counted) == pytest.approx(0.7)
    assert attention_forward(attention[:, :1], counted[:, :1]) == 0.0


def test_the_penalty_by_hand():
    # 2 steps at 0 and 1/2, 4 places at 0, 1/4, 1/2, 3/4; the first looks at place 2, the second at its own, place 2
    attention = torch.zeros(1, 3, 4)
    attention[0, 0, 2] = attention[0, 1, 2] = attention[0, 2, 0] = 1.0
    counted = torch.tensor([[True, True, False]])
    penalty = guided_attention(attention, counted, torch.tensor([4]), width=0.25)
    torch.testing.assert_close(penalty, torch.tensor([[1 - math.exp(-(0.5**2) / (2 * 0.25**2)), 0.0, 0.0]]))


def test_places_that_do_not_exist_leave_the_line_where_it_is():
    attention = torch.rand(1, 3, 4).softmax(dim=-1)
    counted = torch.ones(1, 3, dtype=torch.bool)
    wide = torch.cat([attention, torch.zeros(1, 3, 5)], dim=2)
    alone = guided_attention(attention, counted, torch.tensor([4]))
    torch.testing.assert_close(guided_attention(wide, counted, torch.tensor([4])), alone)
    with pytest.raises(ValueError, match="`width` must be positive, got 0"):
        guided_attention(attention, counted, torch.tensor([4]), width=0)
