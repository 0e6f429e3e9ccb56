"""Imported before `preloaded`, where a sweep seems to ask for Weights & Biases.

Before, since wandb looks through all modules that there are for each of many classes: after torch it would take half as
long again. Only imported, so that nothing runs that a fork would break.
"""

from aqa.runs.wandb_import import import_all_of_wandb
from aqa.system.garbage import imported_for_good

with imported_for_good():
    import_all_of_wandb()
