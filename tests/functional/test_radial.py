import math

import pytest
import torch

from hf_localgan.functional.radial import alpha, delta_alpha, generator_loss, radius_spread, wrong_sign_share

# Free energies of two queries, nats. In the first the generation lies nearer the centre than its reference.
REFERENCE, GENERATION, CENTER = (
    torch.tensor([-90.0, -95.0]),
    torch.tensor([-96.0, -85.0]),
    torch.tensor([-100.0, -99.0]),
)


def test_the_three_scales_by_hand():
    # radii of the references: 10 and 4; of the generations: 4 and 14
    torch.testing.assert_close(alpha(REFERENCE, CENTER, spread=2.0), torch.tensor([5.0, 2.0]))
    torch.testing.assert_close(delta_alpha(REFERENCE, GENERATION, CENTER, spread=2.0), torch.tensor([3.0, -5.0]))
    absolute = delta_alpha(REFERENCE, GENERATION, CENTER, scale="abs_center")
    torch.testing.assert_close(absolute, torch.tensor([6 / 100, -10 / 99]))
    printed = delta_alpha(REFERENCE, GENERATION, CENTER, scale="center")
    torch.testing.assert_close(printed, -absolute)


def test_delta_alpha_is_the_difference_of_the_two_alphas():
    for scale in ("spread", "abs_center", "center"):
        both = [alpha(energy, CENTER, scale, spread=3.0) for energy in (REFERENCE, GENERATION)]
        torch.testing.assert_close(delta_alpha(REFERENCE, GENERATION, CENTER, scale, spread=3.0), both[0] - both[1])


def test_a_constant_added_to_the_free_energy_changes_the_printed_scale_only():
    shifted = [energy + 150 for energy in (REFERENCE, GENERATION, CENTER)]
    torch.testing.assert_close(
        delta_alpha(*shifted, spread=2.0), delta_alpha(REFERENCE, GENERATION, CENTER, spread=2.0)
    )
    for scale in ("center", "abs_center"):
        before = delta_alpha(REFERENCE, GENERATION, CENTER, scale)
        assert not torch.allclose(delta_alpha(*shifted, scale), before)


def test_the_printed_scale_penalises_in_the_wrong_phase_where_the_centre_is_negative():
    right = generator_loss(torch.zeros(2), delta_alpha(REFERENCE, GENERATION, CENTER, spread=2.0)).radial
    printed = generator_loss(torch.zeros(2), delta_alpha(REFERENCE, GENERATION, CENTER, scale="center")).radial
    assert right[0] > 0 and right[1] == 0  # nearer the centre than the reference: pushed outwards
    assert printed[0] == 0 and printed[1] > 0
    assert wrong_sign_share(CENTER) == 1.0 and wrong_sign_share(torch.tensor([-1.0, 2.0, 3.0, 0.0])) == 0.25


def test_the_hybrid_loss_by_hand_and_its_gradients():
    logits = torch.tensor([0.0, math.log(3.0)], requires_grad=True)  # D = 1/2 and 3/4
    energy = GENERATION.clone().requires_grad_()
    loss = generator_loss(logits, delta_alpha(REFERENCE, energy, CENTER, spread=2.0), radial_weight=10.0)
    torch.testing.assert_close(loss.adversarial, torch.tensor([math.log(2.0), math.log(4 / 3)]))
    torch.testing.assert_close(loss.radial, torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(loss.total, torch.tensor([math.log(2.0) + 30, math.log(4 / 3)]))
    loss.total.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([-0.5, -0.25]))  # D - 1
    torch.testing.assert_close(energy.grad, torch.tensor([-5.0, 0.0]))  # phase 2: a higher energy is better


def test_a_centre_near_zero_is_floored_and_has_no_gradient():
    center = torch.tensor([0.01], requires_grad=True)
    value = delta_alpha(torch.tensor([4.0]), torch.tensor([1.0], requires_grad=True), center, "abs_center", floor=0.5)
    torch.testing.assert_close(value.detach(), torch.tensor([6.0]))
    value.sum().backward()
    assert center.grad is None


def test_extreme_logits_stay_finite():
    loss = generator_loss(torch.tensor([-1e4, 1e4]), torch.zeros(2))
    torch.testing.assert_close(loss.total, torch.tensor([1e4, 0.0]))


def test_the_spread_is_the_standard_deviation_of_the_radii():
    # 1, 2, 3: squared deviations 1 + 0 + 1 over n - 1 = 2
    assert radius_spread(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(1.0)
    for radii in (torch.tensor([]), torch.tensor([1.0]), torch.ones(5), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match="standard deviation"):
            radius_spread(radii)
    with pytest.raises(ValueError, match=r"`radii` \(2,\), `center_energy` \(1,\)"):
        radius_spread(torch.tensor([1.0, 2.0]), torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_radii_that_differ_by_rounding_alone_have_no_spread(dtype):
    # One reference 64 times: F(q, r) is the same 512 terms, added up in another order each time, about 300 nats, as by
    # a processor that takes other steps at the end of a batch. The centre's energy is the same sum of fewer terms.
    generator = torch.Generator().manual_seed(0)
    terms = torch.rand(512, generator=generator, dtype=torch.float64).mul(1.2).to(dtype)
    orders = torch.stack([torch.randperm(512, generator=generator) for _ in range(64)])

    def added_up(rows: torch.Tensor) -> torch.Tensor:
        while rows.shape[1] > 1:
            rows = rows[:, ::2] + rows[:, 1::2]  # in pairs, each sum rounded
        return rows[:, 0]

    centers = added_up(terms[orders % 256])
    radii = added_up(terms[orders]) - centers
    assert 0 < float(radii.double().std()) < 4 * float(radii.double().mean())
    with pytest.raises(ValueError, match="above .* which rounding makes of equal radii"):
        radius_spread(radii, centers)
    # What differs by more than rounding keeps its spread, small as it is beside the energies.
    different = radii + torch.linspace(-1, 1, 64).to(dtype) * 60 * torch.finfo(dtype).eps * 300
    assert radius_spread(different, centers) == float(different.double().std())


def test_the_rounding_is_that_of_the_energies_and_not_of_the_radii():
    # float32 numbers about 4096 lie 2^-11 apart: radii of 1 nat that differ by this step are equal.
    centers = torch.full((4,), 4096.0)
    radii = torch.tensor([1.0, 1.0, 1.0, 1.0 + 2**-11])
    with pytest.raises(ValueError, match="rounding"):
        radius_spread(radii, centers)
    assert radius_spread(radii, torch.ones(4)) == pytest.approx(2**-12)


@pytest.mark.parametrize("spread", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_spread_that_is_no_unit_is_refused(spread):
    with pytest.raises(ValueError, match="spread"):
        delta_alpha(REFERENCE, GENERATION, CENTER, spread=spread)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="scale.*middle"):
        alpha(REFERENCE, CENTER, scale="middle")
    with pytest.raises(ValueError, match=r"generation_energy` \(3,\)"):
        delta_alpha(REFERENCE, torch.zeros(3), CENTER, spread=1.0)
    with pytest.raises(ValueError, match="radial_weight"):
        generator_loss(torch.zeros(2), torch.zeros(2), radial_weight=-1.0)
    with pytest.raises(ValueError, match="one value for each example"):
        generator_loss(torch.zeros(2, 1), torch.zeros(2, 1))
