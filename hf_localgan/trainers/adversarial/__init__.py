"""Training of a generator against other players."""
