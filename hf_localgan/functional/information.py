"""Adversarial information maximisation, AIM and DAIM (Zhang et al. 2018).

A generator `theta` answers a query `q` by `r~`, a discriminator compares `r~` with the reference `r`, and a backward
generator `phi` reads the query back from `r~`. With `d = D(r, q) - D(r~, q)`, `D` a cosine, and `g` odd and increasing,

    L_D = -mean g(d)          L_G = w L_sup + (1 - w) mean g(d) + l NLL_phi(q | r~) / |q|

(or mixed convexly, see `aim_generator_loss`). The last term rests on a bound: for every `phi`

    I(q; r~) = H(q) - H(q | r~) >= H(q) + E log phi(q | r~)

with equality where `phi` is the true posterior. Log-probabilities are in nats.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_ODDS = ("artanh", "code")
CODE_SPAN, CODE_SHIFT = 4.1, 0.51  # of the form "code"


# ---- the adversarial term ----


def cosine_scores(query: Tensor, response: Tensor) -> Tensor:
    """`D(r, q)`, the cosine of two embeddings, in [-1, 1]: scale-free, and 0 for an embedding of zeros.

    Args:
        query, response: shape `(..., dim)`.

    Returns:
        Shape `(...)`.
    """
    return F.cosine_similarity(query, response, dim=-1)


def bounded_log_odds(difference: Tensor, form: str = "artanh", limit: float = 1.9) -> Tensor:
    """`g(d)`, the log-odds of a difference of two cosines (Zhang et al. 2018, adversarial objective).

    * "artanh": `2 artanh(d / 2) = ln((2 + d) / (2 - d))`, as printed. Odd; 0 at 0 with slope 1; infinite at -2 and 2,
      so that `d` is held within `limit`: at 1.9 the slope is 10.3.
    * "code": `logit(d / 4.1 + 0.51)`, as in the authors' code: .04 at 0, and slopes of 11 at -2 and 111 at 2, where `d`
      is held within [-2, 2].

    Args:
        difference: `d`, in [-2, 2], any shape.
        form: one of the two.
        limit: largest absolute value of `d` for the form "artanh", above 0 and below 2. Beyond it there is no gradient.

    Returns:
        The same shape, nats.

    Raises:
        ValueError: for another form or limit.
    """
    if form not in LOG_ODDS:
        raise ValueError(f'`form` must be "artanh" or "code", got "{form}".')
    if not 0 < limit < 2:
        raise ValueError(f"`limit` must be above 0 and below 2, where the log-odds are infinite, got {limit}.")
    if form == "code":
        return torch.logit(difference.clamp(-2, 2) / CODE_SPAN + CODE_SHIFT)
    bounded = difference.clamp(-limit, limit)
    return torch.log1p(bounded / 2) - torch.log1p(-bounded / 2)


class PairedLoss(NamedTuple):
    """Two sides of one number for each row, shape `(batch,)`, nats.

    Attributes:
        generator: `g(d)`, which the generator minimises.
        discriminator: `-g(d)`, which the discriminator minimises.
        difference: `d = D(r, q) - D(r~, q)`, without gradient. The share above 0 is how often the discriminator is
            right; the sign of a cosine alone says nothing.
    """

    generator: Tensor
    discriminator: Tensor
    difference: Tensor


def paired_loss(real: Tensor, fake: Tensor, form: str = "artanh", limit: float = 1.9) -> PairedLoss:
    """The adversarial objective of AIM, a discriminator that compares two responses to one query.

    Args:
        real, fake: `D(r, q)` and `D(r~, q)` of the same rows, cosines, shape `(batch,)`.
        form, limit: see `bounded_log_odds`.

    Raises:
        ValueError: for shapes that differ, which would compare responses to different queries.
    """
    if real.shape != fake.shape or real.dim() != 1:
        raise ValueError(
            f"`real` and `fake` must have one cosine for each query, shape (batch,), got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}."
        )
    difference = real - fake
    log_odds = bounded_log_odds(difference, form, limit)
    return PairedLoss(log_odds, -log_odds, difference.detach())


# ---- the information term ----


def query_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """`-log phi(q | r~) / |q|`, what the backward generator does not know of a query, per token of it.

    Args:
        logits: of the backward generator, teacher-forced, shape `(batch, time, vocab)`, with a gradient for `r~`.
        labels: the queries with their end token, -100 at padding, shape `(batch, time)`.

    Returns:
        Nats per token, shape `(batch,)`; 0 for a query without a token.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"`logits` {tuple(logits.shape)} must have the shape of `labels` {tuple(labels.shape)} + vocab."
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nll = F.cross_entropy(wide.transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return nll.sum(dim=1) / (labels != -100).sum(dim=1).clamp(min=1)


def information_bound(query_log_probs: Tensor, query_entropy: float) -> Tensor:
    """`H(q) + E log phi(q | r~)`, a lower bound of the mutual information of queries and responses.

    Args:
        query_log_probs: `log phi(q | r~)` of pairs drawn from the joint distribution, summed over the tokens of `q`,
            nats, any shape.
        query_entropy: `H(q)`, nats; a constant for the generator, so that training leaves it out.

    Returns:
        Nats, shape `()`; below 0 where `phi` knows less of a query than its marginal distribution does.
    """
    return query_entropy + query_log_probs.mean()


def table_information(joint: Tensor, posterior: Tensor | None = None) -> Tensor:
    """Mutual information of a joint table, or with a `posterior` the bound that it gives. Exact, for small tables.

    Args:
        joint: `p(q, r)`, at least 0, summing to 1, shape `(queries, responses)`.
        posterior: `phi(q | r)`, columns that sum to 1, the same shape. By default the true one, with which the bound is
            the mutual information itself.

    Returns:
        Nats, shape `()`; `-inf` where `phi` excludes what occurs.

    Raises:
        ValueError: for a table that is no distribution, and another shape of `phi`.
    """
    if joint.dim() != 2 or (joint < 0).any() or not math.isclose(float(joint.sum()), 1.0, abs_tol=1e-5):
        raise ValueError(
            f"`joint` must be a table of probabilities that sum to 1, got shape {tuple(joint.shape)} and the sum "
            f"{float(joint.sum()):g}."
        )
    if posterior is None:
        posterior = joint / joint.sum(dim=0, keepdim=True).clamp(min=torch.finfo(joint.dtype).tiny)
    elif posterior.shape != joint.shape:
        raise ValueError(f"`posterior` must have shape {tuple(joint.shape)}, got {tuple(posterior.shape)}.")
    query_entropy = torch.special.entr(joint.sum(dim=1)).sum()
    return query_entropy + torch.special.xlogy(joint, posterior).sum()


# ---- the generators' objectives ----


class AimLoss(NamedTuple):
    """Terms of the generator's objective, each of shape `(batch,)` and unreduced, nats.

    Attributes:
        total: what is minimised.
        adversarial: `g(d)`.
        information: `NLL_phi(q | r~) / |q|`.
        supervised: of teacher forcing, zeros where there is none.
    """

    total: Tensor
    adversarial: Tensor
    information: Tensor
    supervised: Tensor


def aim_generator_loss(
    adversarial: Tensor,
    information: Tensor,
    supervised: Tensor | None = None,
    *,
    information_weight: float = 0.1,
    supervised_weight: float = 1.0,
    convex: bool = False,
) -> AimLoss:
    """The generator's objective of AIM (Zhang et al. 2018).

        added:   g(d) + l NLL_phi + w L_sup
        convex:  (1 - l) [w L_sup + (1 - w) g(d)] + l NLL_phi

    The authors mix convexly, with `l` 0.1 and `w` 0.001: the adversarial term has a thousand times the weight of
    teacher forcing.

    Args:
        adversarial: `g(d)`, from `paired_loss(...).generator`, shape `(batch,)`.
        information: `query_nll`, shape `(batch,)`.
        supervised: the negative log-likelihood of the references, the same shape; `None` for none.
        information_weight: `l`, at least 0; at most 1 where mixed convexly.
        supervised_weight: `w`, the same.
        convex: which of the two.

    Raises:
        ValueError: for shapes that differ and weights that are not accepted.
    """
    supervised = torch.zeros_like(adversarial) if supervised is None else supervised
    shapes = {tuple(term.shape) for term in (adversarial, information, supervised)}
    if len(shapes) > 1 or adversarial.dim() != 1:
        raise ValueError(f"Terms must have one value for each example, shape (batch,), got {sorted(shapes)}.")
    most = 1.0 if convex else float("inf")
    for name, weight in (("information_weight", information_weight), ("supervised_weight", supervised_weight)):
        if not (0 <= weight <= most and math.isfinite(weight)):
            accepted = "from 0 to 1 where terms are mixed convexly" if convex else "finite and at least 0"
            raise ValueError(f"`{name}` must be {accepted}, got {weight}.")
    if convex:
        taught = supervised_weight * supervised + (1 - supervised_weight) * adversarial
        total = (1 - information_weight) * taught + information_weight * information
    else:
        total = adversarial + information_weight * information + supervised_weight * supervised
    return AimLoss(total, adversarial, information, supervised)


class DualLoss(NamedTuple):
    """What each generator of DAIM minimises in its own phase, and the whole, scalars in nats.

    Attributes:
        forward: all terms that depend on `theta`, answering queries: its own AIM objective, and the reading back of
            responses from generated queries.
        backward: all terms that depend on `phi`, asking for responses.
        total: the joint objective. Its gradient for `theta` is that of `forward`, and for `phi` that of `backward`,
            where each phase treats the other generator as a constant.
    """

    forward: Tensor
    backward: Tensor
    total: Tensor


def dual_loss(
    forward: AimLoss,
    backward: AimLoss,
    *,
    backward_weight: float = 0.5,
    information_weight: float = 0.1,
    convex: bool = False,
) -> DualLoss:
    """`L_AIM(theta; q -> r) + 0.5 L_AIM(phi; r -> q)`, each generator the other's reader (DAIM, Zhang et al. 2018).

    `theta` stands in the second summand too: there it reads `r` from `q~`, a query that `phi` generated. So its phase
    minimises `L_AIM(theta)` and `0.5 l NLL_theta(r | q~)`, and the phase of `phi` the mirror image. No term is lost,
    and one generator has gradients at a time.

    Args:
        forward: terms of queries answered by `theta`; `information` is `NLL_phi(q | r~) / |q|`.
        backward: terms of responses answered by `phi`; `information` is `NLL_theta(r | q~) / |r|`.
        backward_weight: weight of the second summand, 0.5 in the authors' code.
        information_weight: `l`, as it was given to `aim_generator_loss` for both.
        convex: as it was given there.

    Raises:
        ValueError: for weights that are negative or not finite.
    """
    for name, weight in (("backward_weight", backward_weight), ("information_weight", information_weight)):
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"`{name}` must be finite and at least 0, got {weight}.")
    asked, answered = backward_weight * backward.total.mean(), forward.total.mean()
    read_response = backward_weight * information_weight * backward.information.mean()
    read_query = information_weight * forward.information.mean()
    return DualLoss(answered + read_response, asked + read_query, answered + asked)


# ---- latent noise ----


def latent_noise(
    batch: int, size: int, *, generator: torch.Generator | None = None, device=None, dtype: torch.dtype | None = None
) -> Tensor:
    """`z`, uniform in [-1, 1] and independent in each dimension, which a decoder starts from beside the encoded query.

    Args:
        batch: rows.
        size: dimensions, 10 in the paper.
        generator: generator of random numbers; by default torch's own.

    Returns:
        Shape `(batch, size)`.

    Raises:
        ValueError: for a size below 1.
    """
    if size < 1:
        raise ValueError(f"`size` of the noise must be at least 1, got {size}. Without noise call nothing.")
    return 2 * torch.rand(batch, size, generator=generator, device=device, dtype=dtype) - 1


def add_latent_noise(states: Tensor, noise: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Encoded queries with one vector of noise added at all their places, for encoder-decoders without a place for `z`.

    Each query's noise is scaled by the root mean square of its own states, so that `scale` means the same for every
    model. It is the same at every place: attention, which averages over places, would take independent noise out.

    Args:
        states: states of the encoder, shape `(batch, time, hidden)`.
        noise: shape `(batch, hidden)`, from `latent_noise`.
        mask: 0 at padding, shape `(batch, time)`; by default all places count.
        scale: scale of the noise in units of the states, at least 0. 0 returns the states.

    Returns:
        Shape `(batch, time, hidden)`; padding is left as it is.

    Raises:
        ValueError: for shapes that do not fit, and a negative scale.
    """
    if noise.shape != (states.shape[0], states.shape[2]):
        raise ValueError(
            f"`noise` must have the shape {(states.shape[0], states.shape[2])} for states of shape "
            f"{tuple(states.shape)}, got {tuple(noise.shape)}."
        )
    if not (scale >= 0 and math.isfinite(scale)):
        raise ValueError(f"`scale` must be finite and at least 0, got {scale}.")
    if not scale:
        return states
    places = states.new_ones(states.shape[:2]) if mask is None else mask.to(states.dtype)
    number = places.sum(dim=1).clamp(min=1) * states.shape[2]
    size = ((states.square() * places[:, :, None]).sum(dim=(1, 2)) / number).sqrt()  # (batch,)
    moved = scale * size[:, None, None] * noise.to(states)[:, None]  # (batch, 1, hidden)
    return states + moved * places[:, :, None]
