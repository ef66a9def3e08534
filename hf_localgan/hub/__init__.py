"""What goes to the Hub beside the weights."""

from hf_localgan.hub.model_card import write_model_card

__all__ = ["write_model_card"]
