"""A grid of runs: which they are, and running each once."""
