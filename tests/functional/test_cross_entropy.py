"""The chunked loss equals `F.cross_entropy` of the full logits: value, gradients, memory, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_localgan.functional import linear_cross_entropy, linear_token_nll

VOCAB, DIM = 11, 5
# `chunk_elements` for chunks of 1 row, 3 rows (which do not divide the 10 labelled ones), and all at once.
CHUNKS = pytest.mark.parametrize("chunk_elements", [1, 3 * VOCAB, 2**20], ids=["one row", "three rows", "all"])
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation returns, and the shapes of all."""

    def __init__(self):
        super().__init__()
        self.numel, self.shapes = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
                self.shapes.add(tuple(tensor.shape))
        return result


def example(dtype=torch.float64, with_bias=True, tokens=(3, 4)):
    """Hidden states, output layer, bias and labels, two of twelve positions without a label."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    hidden, weight, bias = draw(*tokens, DIM), draw(VOCAB, DIM), draw(VOCAB) if with_bias else None
    labels = torch.randint(VOCAB, tokens, generator=generator)
    labels[0, 1] = labels[-1, -1] = -100
    return hidden, weight, bias, labels


def plain(hidden, weight, bias, labels, label_smoothing=0.0, divisor=1.0):
    """The loss of the full logits."""
    logits = F.linear(hidden, weight, bias).flatten(0, -2)
    total = F.cross_entropy(logits, labels.flatten(), reduction="sum", label_smoothing=label_smoothing)
    return total / divisor


def example_weights(labels, dtype=torch.float64):
    """One weight for each label, of both signs, one of them 0."""
    weights = torch.randn(labels.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    weights[0, 0] = 0
    return weights


def weighted(hidden, weight, bias, labels, weights, label_smoothing=0.0, divisor=1.0):
    """The loss of the full logits, each label times its weight."""
    logits = F.linear(hidden, weight, bias).flatten(0, -2)
    nll = F.cross_entropy(logits, labels.flatten(), reduction="none", label_smoothing=label_smoothing)
    return (nll * weights.flatten()).sum() / divisor


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()


def assert_same(actual_loss, expected_loss, tensors, tolerance):
    assert relative_error(actual_loss, expected_loss) <= tolerance
    for actual, expected in zip(gradients(actual_loss, *tensors), gradients(expected_loss, *tensors), strict=True):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        assert relative_error(actual, expected) <= tolerance


@CHUNKS
@PRECISIONS
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_loss_and_gradients_equal_those_of_full_logits(dtype, tolerance, chunk_elements, with_bias, smoothing):
    hidden, weight, bias, labels = example(dtype, with_bias)
    actual = linear_cross_entropy(
        hidden, weight, labels, bias=bias, divisor=7.0, label_smoothing=smoothing, chunk_elements=chunk_elements
    )
    assert actual.dtype == dtype and actual.shape == ()
    expected = plain(hidden, weight, bias, labels, smoothing, divisor=7.0)
    assert_same(actual, expected, (hidden, weight, bias), tolerance)


def test_a_token_by_hand():
    # hidden 1, output layer (ln 3, 0), so probabilities 3/4 and 1/4; the label is the second: -ln 1/4 = ln 4.
    # d loss / d logits = (3/4, -3/4); d hidden = 3/4 ln 3; d weight = (3/4, -3/4).
    ln3 = torch.tensor(3.0).log()
    hidden, weight = torch.ones(1, 1, requires_grad=True), torch.stack([ln3, 0 * ln3])[:, None].requires_grad_()
    loss = linear_cross_entropy(hidden, weight, torch.tensor([1]))
    torch.testing.assert_close(loss, torch.tensor(4.0).log())
    loss.backward()
    torch.testing.assert_close(hidden.grad, 0.75 * ln3[None, None])
    torch.testing.assert_close(weight.grad, torch.tensor([[0.75], [-0.75]]))


@CHUNKS
@pytest.mark.parametrize("with_weights", [False, True])
def test_gradients_equal_finite_differences(chunk_elements, with_weights):
    hidden, weight, bias, labels = example()
    settings = {"divisor": 3.0, "label_smoothing": 0.2, "chunk_elements": chunk_elements}
    settings["weights"] = example_weights(labels) if with_weights else None
    slopes = gradients(linear_cross_entropy(hidden, weight, labels, bias=bias, **settings), hidden, weight, bias)
    step = 1e-5
    for number, slope in enumerate(slopes):
        for index in torch.cartesian_prod(*(torch.arange(size) for size in slope.shape)).reshape(-1, slope.dim())[::3]:
            shifted = []
            for sign in (1, -1):
                moved = [tensor.detach().clone() for tensor in (hidden, weight, bias)]
                moved[number][tuple(index)] += sign * step
                shifted.append(linear_cross_entropy(moved[0], moved[1], labels, bias=moved[2], **settings))
            difference = (shifted[0] - shifted[1]) / (2 * step)
            torch.testing.assert_close(slope[tuple(index)], difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("divisor", [10, 10.0, torch.tensor(10), torch.tensor(10.0)], ids=repr)
def test_the_divisor_is_a_number_or_a_tensor(divisor):
    hidden, weight, bias, labels = example()
    actual = linear_cross_entropy(hidden, weight, labels, bias=bias, divisor=divisor)
    mean = F.cross_entropy(F.linear(hidden, weight, bias).flatten(0, 1), labels.flatten())  # ten labels
    assert_same(actual, mean, (hidden, weight, bias), 1e-12)


@PRECISIONS
def test_a_factor_on_the_loss_reaches_the_gradients(dtype, tolerance):
    hidden, weight, bias, labels = example(dtype)
    actual = linear_cross_entropy(hidden, weight, labels, bias=bias) * -2.5 + hidden.sum()
    expected = plain(hidden, weight, bias, labels) * -2.5 + hidden.sum()
    assert_same(actual, expected, (hidden, weight, bias), tolerance)


def test_another_label_may_be_the_one_to_ignore():
    hidden, weight, bias, labels = example()
    labels[labels == -100] = 0
    actual = linear_cross_entropy(hidden, weight, labels, bias=bias, ignore_index=0)
    expected = plain(hidden, weight, bias, labels.masked_fill(labels == 0, -100))
    assert_same(actual, expected, (hidden, weight, bias), 1e-12)


def test_ignored_positions_get_a_gradient_of_exactly_zero():
    hidden, weight, _, labels = example(torch.float32)
    with torch.no_grad():
        hidden[0, 1] = float("inf")  # would spoil everything if it were read
    (gradient,) = gradients(linear_cross_entropy(hidden, weight, labels), hidden)
    assert not gradient[labels == -100].any() and gradient.isfinite().all()


def test_a_batch_without_labels_gives_zero_and_zero_gradients():
    hidden, weight, bias, labels = example()
    loss = linear_cross_entropy(hidden, weight, torch.full_like(labels, -100), bias=bias, divisor=5)
    assert loss == 0
    for gradient, tensor in zip(gradients(loss, hidden, weight, bias), (hidden, weight, bias), strict=True):
        assert gradient.shape == tensor.shape and not gradient.any()


def test_logits_of_any_size_are_finite():
    hidden, labels = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
    weight = torch.tensor([[30_000.0], [-30_000.0]], requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, labels)
    loss.backward()
    assert loss == 60_000  # 0 for the first token; the second is 60,000 nats below the first
    assert weight.grad.tolist() == [[1.0], [-1.0]]


def test_an_embedding_that_is_the_output_layer_too_gets_both_gradients():
    _, weight, _, labels = example()
    labels = labels.clamp(min=0)

    def loss_of(loss):
        hidden = torch.tanh(F.embedding(labels.roll(1, dims=1), weight))
        return loss(hidden, weight, labels)

    actual = loss_of(linear_cross_entropy)
    expected = loss_of(lambda hidden, weight, labels: plain(hidden, weight, None, labels))
    assert_same(actual, expected, (weight,), 1e-12)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen):
    tensors = dict(zip(("hidden", "weight", "bias"), example()[:3], strict=True))
    labels = example()[3]
    expected = dict(zip(tensors, gradients(plain(*tensors.values(), labels), *tensors.values()), strict=True))
    tensors[frozen].requires_grad_(False)
    linear_cross_entropy(tensors["hidden"], tensors["weight"], labels, bias=tensors["bias"]).backward()
    assert tensors.pop(frozen).grad is None
    for name, tensor in tensors.items():
        assert relative_error(tensor.grad, expected[name]) <= 1e-12


def test_gradients_accumulate_over_batches():
    hidden, weight, _, labels = example()
    for rows in (slice(0, 1), slice(1, 3)):
        linear_cross_entropy(hidden[rows], weight, labels[rows], divisor=10).backward()
    expected = gradients(plain(hidden, weight, None, labels, divisor=10), hidden, weight)
    for actual, gradient in zip((hidden.grad, weight.grad), expected, strict=True):
        assert relative_error(actual, gradient) <= 1e-12


# bfloat16 rounds each factor by up to 2 ** -9 = 0.002, and the logits once more.
BF16_TOLERANCE = 0.02


@CHUNKS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bfloat16_products_stay_close(chunk_elements, smoothing):
    hidden, weight, bias, labels = example(torch.float32)
    actual = linear_cross_entropy(
        hidden,
        weight,
        labels,
        bias=bias,
        label_smoothing=smoothing,
        matmul_dtype=torch.bfloat16,
        chunk_elements=chunk_elements,
    )
    assert actual.dtype == torch.float32
    assert_same(actual, plain(hidden, weight, bias, labels, smoothing), (hidden, weight, bias), BF16_TOLERANCE)


def test_bfloat16_weights_sum_in_float32():
    hidden, weight, bias, labels = example(torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels, bias=bias)
    assert loss.dtype == torch.float32
    wide = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight, bias)]
    expected = plain(*wide, labels)
    assert relative_error(loss, expected) <= BF16_TOLERANCE
    pairs = zip(gradients(loss, hidden, weight, bias), gradients(expected, *wide), strict=True)
    for actual, gradient in pairs:
        assert actual.dtype == torch.bfloat16 and relative_error(actual.float(), gradient) <= BF16_TOLERANCE


def test_autocast_does_not_change_the_precision():
    hidden, weight, bias, labels = example(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = linear_cross_entropy(hidden, weight, labels, bias=bias)
    assert_same(actual, plain(hidden, weight, bias, labels), (hidden, weight, bias), 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # hidden states as a layer under autocast gives them
        loss = linear_cross_entropy(hidden.bfloat16(), weight, labels, bias=bias)
    assert relative_error(loss, plain(hidden, weight, bias, labels)) <= BF16_TOLERANCE
    assert {gradient.dtype for gradient in gradients(loss, hidden, weight, bias)} == {torch.float32}


def test_a_second_backward_is_refused():
    hidden, weight, _, labels = example()
    loss = linear_cross_entropy(hidden, weight, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="were used already; `retain_graph` is not supported"):
        loss.backward()


def test_second_derivatives_are_refused():
    hidden, weight, _, labels = example()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, labels) * factor
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("hidden", "weight", "labels"), [((2, 3, 5), (7, 4), (2, 3)), ((2, 3, 5), (7, 5), (2, 4)), ((6, 5), (7, 5), (2, 3))]
)
def test_shapes_that_do_not_fit_are_named(hidden, weight, labels):
    with pytest.raises(ValueError) as error:
        linear_cross_entropy(torch.zeros(hidden), torch.zeros(weight), torch.zeros(labels, dtype=torch.long))
    assert all(str(shape) in str(error.value) for shape in (hidden, weight, labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_that_is_no_share_is_refused(smoothing):
    hidden, weight, _, labels = example()
    with pytest.raises(ValueError, match=f"`label_smoothing` must be in \\[0, 1\\), got {smoothing}"):
        linear_cross_entropy(hidden, weight, labels, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_tensor_outgrows_the_chunk(smoothing):
    # 600 labelled positions x 500 words are 300,000 logits. Allowed are 5,000: ten rows at a time. The output layer and
    # its gradient have 500 x 4 = 2,000 elements, the hidden states 600 x 4 = 2,400.
    hidden, weight = torch.randn(30, 20, 4, requires_grad=True), torch.randn(500, 4, requires_grad=True)
    labels = torch.randint(500, (30, 20))
    with Largest() as largest:
        linear_cross_entropy(hidden, weight, labels, label_smoothing=smoothing, chunk_elements=5_000).backward()
    assert largest.numel == 5_000
    with Largest() as largest:
        linear_token_nll(hidden, weight, labels, chunk_elements=5_000)
    assert largest.numel == 5_000
    with Largest() as largest:  # what the observer would have seen otherwise
        plain(hidden, weight, None, labels).backward()
    assert largest.numel == 300_000


def test_no_gradient_is_formed_where_none_is_wanted():
    # Nothing of the size of the output layer, which its gradient would have, comes into being.
    hidden, weight, _, labels = example()
    with Largest() as training:
        linear_cross_entropy(hidden, weight, labels, chunk_elements=1)
    with torch.no_grad(), Largest() as evaluation:
        loss = linear_cross_entropy(hidden, weight, labels, chunk_elements=1)
    assert not loss.requires_grad
    assert (VOCAB, DIM) in training.shapes and (VOCAB, DIM) not in evaluation.shapes


@CHUNKS
@PRECISIONS
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_likelihood_of_each_token_equals_the_unreduced_loss(dtype, tolerance, chunk_elements, with_bias):
    hidden, weight, bias, labels = example(dtype, with_bias)
    actual = linear_token_nll(hidden, weight, labels, bias=bias, chunk_elements=chunk_elements)
    logits = F.linear(hidden, weight, bias).flatten(0, 1)
    expected = F.cross_entropy(logits, labels.flatten(), reduction="none").view(labels.shape)
    assert actual.shape == labels.shape and actual.dtype == dtype and not actual.requires_grad
    assert relative_error(actual, expected) <= tolerance
    assert not actual[labels == -100].any()


def test_the_likelihoods_in_bfloat16_and_without_labels():
    hidden, weight, bias, labels = example(torch.float32)
    exact = linear_token_nll(hidden, weight, labels, bias=bias)
    rounded = linear_token_nll(hidden, weight, labels, bias=bias, matmul_dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32 and relative_error(rounded, exact) <= BF16_TOLERANCE
    assert not linear_token_nll(hidden, weight, torch.full_like(labels, -100)).any()


@CHUNKS
@PRECISIONS
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_each_label_counts_as_its_weight_says(dtype, tolerance, chunk_elements, with_bias, smoothing):
    hidden, weight, bias, labels = example(dtype, with_bias)
    weights = example_weights(labels, dtype)
    assert (weights < 0).any() and (weights > 0).any()
    settings = {"divisor": 7.0, "label_smoothing": smoothing}
    actual = linear_cross_entropy(
        hidden, weight, labels, bias=bias, weights=weights, chunk_elements=chunk_elements, **settings
    )
    expected = weighted(hidden, weight, bias, labels, weights, **settings)
    assert actual.dtype == dtype
    assert_same(actual, expected, (hidden, weight, bias), 4 * tolerance)  # weights of both signs cancel in part


def test_a_weighted_token_by_hand():
    # As above, ln 4 with d logits (3/4, -3/4); at weight -2 and divisor 4 all of it times -1/2.
    ln3 = torch.tensor(3.0).log()
    hidden, weight = torch.ones(1, 1, requires_grad=True), torch.stack([ln3, 0 * ln3])[:, None].requires_grad_()
    loss = linear_cross_entropy(hidden, weight, torch.tensor([1]), weights=torch.tensor([-2.0]), divisor=4)
    torch.testing.assert_close(loss, -torch.tensor(4.0).log() / 2)
    loss.backward()
    torch.testing.assert_close(hidden.grad, -0.375 * ln3[None, None])
    torch.testing.assert_close(weight.grad, torch.tensor([[-0.375], [0.375]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_of_one_change_no_bit_and_a_weight_of_zero_is_as_no_label(dtype):
    hidden, weight, bias, labels = example(dtype)
    tensors, ones = (hidden, weight, bias), torch.ones(labels.shape)
    loss = linear_cross_entropy(hidden, weight, labels, bias=bias, divisor=7.0)
    with_ones = linear_cross_entropy(hidden, weight, labels, bias=bias, weights=ones, divisor=7.0)
    assert torch.equal(loss, with_ones)
    assert all(map(torch.equal, gradients(loss, *tensors), gradients(with_ones, *tensors)))

    without = linear_cross_entropy(hidden, weight, labels.index_fill(0, torch.tensor([1]), -100), bias=bias)
    zero = linear_cross_entropy(hidden, weight, labels, bias=bias, weights=ones.index_fill(0, torch.tensor([1]), 0))
    torch.testing.assert_close(zero, without)
    (gradient,) = gradients(zero, hidden)
    assert not gradient[1].any() and gradient[0].any() and gradient.isfinite().all()


def test_weighted_bfloat16_products_stay_close():
    hidden, weight, bias, labels = example(torch.float32)
    weights = example_weights(labels, torch.float32)
    actual = linear_cross_entropy(hidden, weight, labels, bias=bias, weights=weights, matmul_dtype=torch.bfloat16)
    assert_same(actual, weighted(hidden, weight, bias, labels, weights), (hidden, weight, bias), 2 * BF16_TOLERANCE)


def test_no_gradient_reaches_the_weights():
    hidden, weight, _, labels = example()
    weights = example_weights(labels).requires_grad_()
    linear_cross_entropy(hidden, weight, labels, weights=weights).backward()
    assert weights.grad is None and hidden.grad.any()


def test_weighted_no_tensor_outgrows_the_chunk():
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((30, 20, 4), (500, 4), (500,)))
    labels, weights = torch.randint(500, (30, 20)), torch.randn(30, 20)
    with Largest() as largest:
        linear_cross_entropy(hidden, weight, labels, bias=bias, weights=weights, chunk_elements=5_000).backward()
    assert largest.numel == 5_000


def test_weights_that_are_not_one_for_each_label_are_refused():
    hidden, weight, _, labels = example()
    with pytest.raises(ValueError, match=r"`weights` \(3,\) must have the shape of `labels` \(3, 4\)"):
        linear_cross_entropy(hidden, weight, labels, weights=torch.ones(3))
