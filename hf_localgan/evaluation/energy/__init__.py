"""What an energy has learned."""
