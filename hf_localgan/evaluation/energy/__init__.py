"""Measuring a trained energy on held-out pairs."""
