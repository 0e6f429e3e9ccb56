"""What an experiment file may say, and reading it."""
