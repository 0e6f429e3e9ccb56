"""Reliability campaigns: kills, broken files, fuzzing, a soak, a lost node: `python -m stress.NAME`."""
