"""Expected reward by policy gradient."""
