"""Early fusion in which a hidden stream is zeros, the simplest thing to do about it.

Zero-filling is a baseline of nearly every paper on missing modalities; among the first to compare it for deep sequence
models are Lipton et al., Directly Modeling Missing Data in Sequences with RNNs (MLHC 2016, arXiv 1606.04130). The
network is not told what is missing: zeros go through the projection, and into its batch statistics, like features.
It is `grade_decoder` except for that.
"""

from __future__ import annotations

from aqa.models import register
from aqa.models.early_fusion import EarlyFusion


@register("zero_fill", paper="Directly Modeling Missing Data in Sequences with RNNs, arXiv 1606.04130", year=2016)
class ZeroFill(EarlyFusion):
    """Early fusion; the features of a hidden stream are zeros."""

    fixed_shapes = True
