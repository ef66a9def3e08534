"""Maximum likelihood."""

from hf_localgan.trainers.base.token_loss import MAXIMUM_LIKELIHOOD, TokenLossTrainer
from hf_localgan.trainers.mle.config import MleConfig


class MleTrainer(TokenLossTrainer):
    """Trains an encoder-decoder by maximum likelihood: `-log p(response | query)` per token of the response.

    Loss, scaling, evaluation and arguments are those of `TokenLossTrainer`, to which this objective adds nothing.
    """

    objective = MAXIMUM_LIKELIHOOD
    config_class = MleConfig
    args: MleConfig
