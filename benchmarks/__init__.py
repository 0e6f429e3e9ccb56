"""Speed and memory, each a ratio to a limit measured in the same run: `python -m benchmarks.NAME`."""
