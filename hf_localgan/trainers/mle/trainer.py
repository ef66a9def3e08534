"""Maximum likelihood."""

from hf_localgan.trainers.base.token_loss import MAXIMUM_LIKELIHOOD, TokenLossTrainer
from hf_localgan.trainers.mle.config import MleConfig


class MleTrainer(TokenLossTrainer):
    """Trains an encoder-decoder by maximum likelihood: `-log p(response | query)` per token of the response.

    The loss, its scaling, the evaluation and the arguments are `TokenLossTrainer`'s; this objective adds nothing to
    them.
    """

    objective = MAXIMUM_LIKELIHOOD
    config_class = MleConfig
