"""Trainer extensions for Hugging Face Transformers: sequence-to-sequence models beyond maximum likelihood."""

__version__ = "0.1.0.dev0"
