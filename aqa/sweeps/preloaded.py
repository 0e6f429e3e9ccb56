"""Imported by the one process that a sweep's processes are forked from, for what they all need to be imported once.

What cannot be imported is left to the run that needs it, which fails and says why.
"""

import contextlib
import gc
import importlib

from aqa.sweeps.workers import PRELOADED

for name in PRELOADED:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
gc.freeze()  # what is imported stays, here and in what is forked, and need not be looked through for garbage
