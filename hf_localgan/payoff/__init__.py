"""Samplers of the exponentiated payoff distribution `q(y | y*)` of RAML, and the rewards they can sharpen."""

from hf_localgan.payoff.base import Draws, Payoff, TokenPayoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import Candidates, ImportancePayoff
from hf_localgan.payoff.neighbours import Neighbours
from hf_localgan.payoff.rewards import BatchReward, Chrf, NegativeTokenErrorRate, Reward, RougeL, SentenceBleu
from hf_localgan.payoff.show import edit_table, plot_edit_probs
from hf_localgan.payoff.weighted_hamming import WeightedHammingPayoff

__all__ = [
    "BatchReward",
    "Candidates",
    "Chrf",
    "Draws",
    "EditPayoff",
    "ExactEditPayoff",
    "HammingPayoff",
    "ImportancePayoff",
    "NegativeTokenErrorRate",
    "Neighbours",
    "Payoff",
    "Reward",
    "RougeL",
    "SentenceBleu",
    "TokenPayoff",
    "WeightedHammingPayoff",
    "edit_table",
    "plot_edit_probs",
]
