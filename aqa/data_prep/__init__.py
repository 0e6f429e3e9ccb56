"""The preparation scripts of the top-level folder `data_prep`, found by their place and not by their name.

Users give folders of their own the name `data_prep`, too; `aqa.data_prep` is always the one beside this package.
"""

from pathlib import Path

from aqa.registry import Registry

__path__ = [str(Path(__file__).parents[2] / "data_prep")]

DATASETS: Registry = Registry("data set", __name__)
