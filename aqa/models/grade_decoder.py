"""GDLT: Likert Scoring with Grade Decoupling for Long-term Action Assessment.

Paper: Xu et al., CVPR 2022, pages 3232-3241. Official code: https://github.com/xuangch/CVPR22_GDLT.

Clip features are projected and encoded by a transformer. Learned prototypes, one per grade, attend to the encoded
clips; the strength of each response weights its grade, and the score is the weighted mean of the grades. A triplet loss
keeps what the prototypes decode apart. Much of later action quality assessment, MCMoE among it, builds on this decoder.

GDLT takes one modality, and with one modality this model is GDLT. With several, each has the paper's projection, and
the projected streams are joined over channels. A hidden stream is zeros after its projection, so that nothing of it
enters the projection's batch statistics, and one more channel per modality tells the network: 1 where it is visible.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from aqa.layers.clips import on_clips
from aqa.models import register
from aqa.models.early_fusion import EarlyFusion


@register(
    "grade_decoder",
    paper="Likert Scoring with Grade Decoupling for Long-term Action Assessment, CVPR 2022",
    year=2022,
)
class GradeDecoderModel(EarlyFusion):
    """Transformer with grade prototypes (GDLT); hidden streams are zeros that it knows of."""

    tells_visible = True
    fixed_shapes = True
    shares_patterns = True

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        return [self.projections[m] for m, seen in zip(self.modalities, visible.any(dim=0), strict=True) if not seen]

    def project(self, features: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Visible streams in the shared space, (B, T, H) by modality; zeros where hidden."""
        streams = {}
        for m, seen in zip(self.modalities, visible.T, strict=True):
            real = seen.unsqueeze(1).expand(-1, features[m].shape[1])  # (B, T)
            streams[m] = on_clips(self.projections[m], features[m], real if clips is None else real & clips)
        return streams
