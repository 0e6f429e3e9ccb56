"""The preparation scripts of the top-level folder `data_prep`, found by their place and not by their name.

Users give folders of their own the name `data_prep`, too; `aqa.data_prep` is always the one beside this package. A
wheel has the scripts in this folder, and no package `data_prep`.
"""

from pathlib import Path

from aqa.registry import Registry

HERE = Path(__file__).parent
if not (HERE / "prepare.py").is_file():
    __path__ = [str(HERE.parents[1] / "data_prep")]

DATASETS: Registry = Registry("data set", __name__)
