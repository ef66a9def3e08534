"""Base classes and helpers of all trainers."""
