"""Streams that go missing for a reason: not at random by the score itself, or at random given another stream.

Rubin, Inference and Missing Data, Biometrika 1976: missing not at random (MNAR), missing at random (MAR). Which videos
lack a stream follows from something known of them: how likely each is to lack it is a logistic function of its rank,
shifted so that the rate over the videos is met exactly, as `rates` meets its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import Field

from aqa.errors import AqaError, nearest
from aqa.missing.base import PATTERNS, Draws, MissingPattern, Videos, Visibility

if TYPE_CHECKING:
    import pandas as pd  # longer to import than a model to load

Floats = NDArray[np.float64]
Rate = Annotated[float, Field(ge=0, le=1)]


class Informative(MissingPattern):
    """One modality goes missing by the rank of something known of each video.

    rate: the share of the videos with the modality that lack it. strength: by how much the log odds of missing differ
    between the lowest and the highest rank; positive: low ones lack it more often. A video that has nothing else keeps
    the modality, without bending the rate.
    """

    kind = ""

    def __init__(self, modalities: Sequence[str], modality: str, by: str, rate: float, strength: float):
        super().__init__(modalities)
        self._index([modality])
        self.modality, self.by, self.rate, self.strength = modality, by, rate, strength
        self.videos: pd.Index | None = None  # the keys of the videos that it is for
        self.chances: Floats = np.zeros(0)  # of each to lack the modality

    @property
    def name(self) -> str:
        return f"{self.kind}({self.modality} {self.rate:g} by {self.by}, strength {self.strength:g})"

    def known(self, videos: Videos) -> Floats:
        """What the pattern goes by, (n,)."""
        raise NotImplementedError

    def informed(self, videos: Videos) -> MissingPattern:
        column = self.modalities.index(self.modality)
        has = videos.available[:, column]
        others = videos.available.sum(axis=1) > 1
        chance = np.zeros(len(has))
        if (has & others).any():
            wanted = self.rate * has.sum() / (has & others).sum()
            if wanted > 1:
                raise AqaError(
                    f"missing pattern '{self.name}': {(has & others).sum()} of {has.sum()} videos with "
                    f"{self.modality} have another modality; the rate can be at most "
                    f"{(has & others).sum() / has.sum():.3g}"
                )
            chance[has & others] = chances(self.known(videos)[has & others], wanted, self.strength)
        import pandas as pd

        made = copy.copy(self)
        made.videos, made.chances = pd.Index(videos.keys), chance
        return made

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        import pandas as pd

        asked = pd.Index(draws.sample)
        place = np.full(len(asked), -1) if self.videos is None else self.videos.get_indexer(asked)
        if (place < 0).any():
            raise AqaError(f"missing pattern '{self.name}' does not know these videos: see MissingPattern.informed")
        missing = draws.uniform(f"{self.kind} {self.modality}")[:, 0] < self.chances[place]
        column = np.array([m == self.modality for m in self.modalities])
        hidden = missing[:, None] & column & (available.sum(axis=1, keepdims=True) > 1)
        return available & ~hidden


def chances(values: Floats, rate: float, strength: float) -> Floats:
    """How likely each of n videos is to lack a stream, (n,): logistic in the rank of its value, `rate` on average.

    A value that is NaN takes the middle rank.
    """
    if rate in (0.0, 1.0):
        return np.full(len(values), rate)
    import pandas as pd

    place = (pd.Series(values).rank() - 0.5) / max(int(np.isfinite(values).sum()), 1) - 0.5
    slope = -strength * place.fillna(0.0).to_numpy()
    reach = abs(scipy.special.logit(rate)) + abs(strength) + 1
    shift = scipy.optimize.brentq(lambda a: scipy.special.expit(a + slope).mean() - rate, -reach, reach)
    return np.asarray(scipy.special.expit(shift + slope))


@PATTERNS.register("mnar")
class MissingNotAtRandom(Informative):
    """Missing by the score itself: {mnar: {modality: audio, by: score, rate: 0.4}}.

    strength: difference of the log odds of missing between the worst and the best video; positive: bad performances
    lack the stream more often. The score decides what is hidden, and so what is hidden tells of the score: that is
    what is studied here. A test video's label decides what of itself is hidden, and nothing in training.
    """

    kind = "mnar"

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        modality: str,
        rate: Rate,
        by: Literal["score"] = "score",
        strength: float = 4.0,
    ):
        super().__init__(modalities, modality, by, rate, strength)

    def known(self, videos: Videos) -> Floats:
        if videos.scores is None:
            raise AqaError(f"missing pattern '{self.name}' goes by the scores, and these videos have none")
        return videos.scores


@PATTERNS.register("mar")
class MissingAtRandom(Informative):
    """Missing by the energy of another stream: {mar: {modality: audio, by: visual, rate: 0.4}}.

    Energy is the root mean square of a stream's features over clips and channels. strength: difference of the log odds
    of missing between the least and the most energy; positive: quiet videos lack the modality more often. A video that
    lacks the stream `by` takes the middle rank. `by` itself is not hidden here, so that the reason stays visible.
    """

    kind = "mar"

    def __init__(self, modalities: Sequence[str], *, modality: str, by: str, rate: Rate, strength: float = 4.0):
        super().__init__(modalities, modality, by, rate, strength)
        if by not in self.modalities or by == modality:
            known = [m for m in self.modalities if m != modality]
            raise AqaError(f"missing pattern 'mar', option 'by': another modality is needed: {nearest(by, known)}")

    def known(self, videos: Videos) -> Floats:
        return videos.energy(self.by)
