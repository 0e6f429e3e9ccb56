"""From published files to feature stores: one file a data set, found by name."""

from aqa.registry import Registry

DATASETS: Registry = Registry("data set", __name__)
