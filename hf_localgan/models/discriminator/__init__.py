"""Discriminators of queries and responses, `model_type = "query_response_discriminator"`."""

from .configuration_discriminator import PairDiscriminatorConfig
from .modeling_discriminator import PairDiscriminator, PairDiscriminatorOutput

__all__ = ["PairDiscriminator", "PairDiscriminatorConfig", "PairDiscriminatorOutput"]
