"""The commands of `aqa`: what each takes, and the Python function that it calls."""
