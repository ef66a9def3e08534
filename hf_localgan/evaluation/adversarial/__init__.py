"""What adversarial training has changed."""
