"""Early fusion in which a hidden stream is zeros, the simplest thing to do about it.

Zero-filling is a baseline of nearly every paper on missing modalities; among the first to compare it for deep sequence
models are Lipton et al., Directly Modeling Missing Data in Sequences with RNNs (MLHC 2016, arXiv 1606.04130). The
network is not told what is missing: zeros go through the projection, and into its batch statistics, like features.
It is `grade_decoder` but for that.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from aqa.models import register
from aqa.models.layers import EarlyFusion, fill_hidden


@register("zero_fill", paper="Directly Modeling Missing Data in Sequences with RNNs, arXiv 1606.04130", year=2016)
class ZeroFill(EarlyFusion):
    """Early fusion; the features of a hidden stream are zeros."""

    def fill(self, features: Mapping[str, Tensor], visible: Tensor) -> dict[str, Tensor]:
        """Features (B, T, D) by modality, zeros where hidden."""
        return fill_hidden(features, visible, dict.fromkeys(self.modalities, 0.0))
