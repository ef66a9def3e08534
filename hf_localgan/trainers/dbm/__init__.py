"""Training of deep Boltzmann machines."""
