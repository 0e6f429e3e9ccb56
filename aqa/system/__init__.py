"""The operating system: files, signals, memory, devices; pickles read without running them."""
