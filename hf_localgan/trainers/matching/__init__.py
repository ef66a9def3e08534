"""Training of discriminators on matching queries with responses."""
