"""Configuration of the deep Boltzmann machine over a query and a response."""

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

ENERGIES = ("dbm", "printed", "rbm_pair")
VISIBLE_STDS = ("unit", "learned")
POOLINGS = ("mean", "sqrt", "distinct_sqrt")


@strict  # a value of another type is refused by name
class DbmConfig(PreTrainedConfig):
    """Configuration of a deep Boltzmann machine over the vectors of a query and a response (LocalGAN, Eq. 8).

    Args:
        query_size: dimensions of a query's vector.
        response_size: dimensions of a response's vector.
        hidden_size: binary units that both vectors are joined to, `hq`.
        top_size: binary units above them, `h`. 0 leaves a Gaussian-Bernoulli RBM, the baseline.
        energy: "dbm": Eq. 8 with biases and the quadratic term that real-valued visible units need. "printed": Eq. 8
            as printed, without both; it has no lower bound, so it cannot be trained or sampled from. "rbm_pair": the
            set-up that the paper's authors published, two RBMs over the same vectors whose free energies are added;
            the units of the second one are the top layer.
        visible_std: standard deviation of a visible unit when the hidden units are known. "unit": 1, as in the paper.
            "learned": one number for each dimension. With "unit" the model gives every direction a variance of 1 at
            least, as much as a standardised dimension has, so that it cannot describe correlated dimensions.
        whiten: whether the scalers take correlations out of the vectors of either side. Then the model learns how the
            sides depend on each other, and what is not normal in them.
        pooling: how word vectors become the vector of an utterance of `n` regular tokens. "mean": their mean, as in the
            paper, whose spread falls like `1 / sqrt(n)`, so that short utterances lie far out whatever they say.
            "sqrt": their sum divided by `sqrt(n)`, whose spread does not depend on `n`. "distinct_sqrt": the same over
            the different tokens, each once, so that repetition brings nothing.
        vocab_size: tokens that have a frozen word vector here. `None`: there are no word vectors, and the model takes
            vectors of utterances only.
        mean_field_steps: largest number of steps of the mean field, unless a method is given another one.
        mean_field_tolerance: the mean field of an example ends when none of its means has moved further than this.
        initializer_range: standard deviation of the couplings at the start.
        radius_spread: standard deviation of `F(q, r) - F(q, rc)` over training pairs, nats: the unit of LocalGAN's
            radial term. `None` until it is measured.
        distance_spread: the same of the distances `sqrt(F(q, r) - F(q, rc))`, square roots of nats.
        vocabulary: fingerprint of the tokenizer that the word vectors were made for; `None` where it is not known.

    Raises:
        ValueError: for a name that is not listed above, a size below 1 (`top_size`: below 0, or below 1 for a pair), a
            tolerance outside [0, 1), a negative `initializer_range`, learned standard deviations for another energy
            than "dbm", and word vectors for queries and responses of two sizes.
    """

    model_type = "query_response_dbm"

    query_size: int = 200
    response_size: int = 200
    hidden_size: int = 128
    top_size: int = 128
    energy: str = "dbm"
    visible_std: str = "unit"
    whiten: bool = False
    pooling: str = "mean"
    vocab_size: int | None = None
    mean_field_steps: int = 200
    mean_field_tolerance: float | int = 1e-6
    initializer_range: float | int = 0.01
    radius_spread: float | None = None
    distance_spread: float | None = None
    vocabulary: str | None = None

    def __post_init__(self, **kwargs):
        for name, accepted in (("energy", ENERGIES), ("visible_std", VISIBLE_STDS), ("pooling", POOLINGS)):
            if getattr(self, name) not in accepted:
                choices = ", ".join(f'"{choice}"' for choice in accepted)
                raise ValueError(f'`{name}` must be one of {choices}, got "{getattr(self, name)}".')
        for name in ("query_size", "response_size", "hidden_size", "mean_field_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.top_size < (self.energy == "rbm_pair"):
            raise ValueError(
                f'`top_size` must be at least {int(self.energy == "rbm_pair")} with `energy="{self.energy}"`, got '
                f"{self.top_size}."
            )
        if not 0 <= self.mean_field_tolerance < 1:
            raise ValueError(f"`mean_field_tolerance` must be in [0, 1), got {self.mean_field_tolerance}.")
        if not 0 <= self.initializer_range < math.inf:
            raise ValueError(f"`initializer_range` must be at least 0 and finite, got {self.initializer_range}.")
        if self.vocab_size is not None and self.vocab_size < 1:
            raise ValueError(f"`vocab_size` must be at least 1, or `None`, got {self.vocab_size}.")
        if self.energy != "dbm" and self.visible_std != "unit":
            raise ValueError(f'`visible_std="learned"` needs `energy="dbm"`, got `energy="{self.energy}"`.')
        if self.vocab_size is not None and self.query_size != self.response_size:
            raise ValueError(
                "One table of word vectors makes queries and responses of one size, got `query_size` "
                f"{self.query_size} and `response_size` {self.response_size}. Make them equal, or leave `vocab_size` "
                "at `None` and give vectors of utterances."
            )
        super().__post_init__(**kwargs)
