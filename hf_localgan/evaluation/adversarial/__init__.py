"""Comparing an adversarially trained generator with its start."""
