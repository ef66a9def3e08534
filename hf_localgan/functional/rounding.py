"""What rounding can do to a number, so that what is zero on paper is known as zero after arithmetic."""

import torch


def rounding_bound(magnitude: float, dtype: torch.dtype = torch.float64, roundings: int = 8) -> float:
    """How far from zero a difference of two equal quantities may lie, each computed in its own order.

    One rounding changes a number by at most `eps / 2` of its magnitude, and so many of them by at most their sum
    (Higham 2002, chapter 3, to first order). Which order a processor takes depends on its instructions and on the place
    of an example in the batch.

    Args:
        magnitude: largest number on the way, in the unit of the quantity. A small difference of large numbers has the
            rounding of the large ones.
        dtype: floating-point type that the arithmetic was done in.
        roundings: on the way. Sums of many terms are added in blocks and their roundings have either sign, so that few
            are enough for sums, too.

    Returns:
        In the unit of the magnitude.
    """
    return roundings * torch.finfo(dtype).eps / 2 * magnitude
