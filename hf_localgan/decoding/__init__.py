"""Ways to decode that `generate` does not have."""

from hf_localgan.decoding.soft_rollout import SoftRollout, soft_rollout

__all__ = ["SoftRollout", "soft_rollout"]
