"""Imported by the one process that a sweep's processes are forked from, for what they all need to be imported once.

What cannot be imported is left to the run that needs it, which fails and says why.
"""

import contextlib
import importlib

from aqa.sweeps.workers import PRELOADED
from aqa.system.garbage import imported_for_good

with imported_for_good():
    for name in PRELOADED:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
