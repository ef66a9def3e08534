"""Reward augmented maximum likelihood (Norouzi et al. 2016)."""
