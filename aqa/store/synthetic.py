"""Synthetic feature stores whose best possible Spearman correlation is known for every missing pattern.

A video's quality is a sum of independent standard normal parts,

    q = sqrt(a) s + sum_m sqrt(b_m) u_m + sqrt(c) e,        a + sum_m b_m + c = 1,

where s is evidence that all streams share, u_m evidence that only modality m carries, and e judges' noise that no
stream shows. Modality m reports s and u_m at every clip with a stationary AR(1) error each:

    x_t = offset + A (s + error_t, u_m + error'_t) + B nuisance_t + noise_t.

A (D, 2) and B (D, K) are orthonormal and orthogonal to each other, the nuisance is AR(1) and the noise is white in the
complement of A, so that nothing outside A's two directions tells anything of q. The errors are scaled by the video's
length, so that the generalised least squares mean over its clips has the error variance that the stream states,
whatever the length. That mean is sufficient and everything is jointly Gaussian: the best prediction from any set of
streams is linear, and its correlation with q is known (`ceiling_srcc`).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest
from aqa.modalities import subsets
from aqa.store.draws import CLIPS, EVIDENCE, LENGTH, Clips, DrawnVideos, Floats, Video, ar1, generator, mixing, videos
from aqa.store.graded import best_srcc, grade_of
from aqa.store.moments import MOMENTS, MomentPreset, draw_moments
from aqa.store.store import Modality, Target
from aqa.store.write import write_store


@dataclass(frozen=True)
class Stream:
    """How a modality reports quality: width D and the error variance, over a whole video, of its two signals.

    The signals have variance 1. shared_error belongs to the evidence that all streams share, own_error to its own.
    """

    width: int
    shared_error: float
    own_error: float


@dataclass(frozen=True)
class Score:
    """A target: its range, and the parts of its variance (shared, one per modality, judges' noise), summing to 1.

    grades: how many grades of equal shares it is cut into, 0 to grades - 1; 0 where it is not.
    """

    low: float
    high: float
    shared: float
    own: tuple[float, ...]
    grades: int = 0

    @property
    def weights(self) -> Floats:
        """Weights of s, of every u_m and of e, (M + 2,), of unit length."""
        judges = 1.0 - self.shared - sum(self.own)
        return np.sqrt([self.shared, *self.own, judges])


@dataclass(frozen=True)
class Preset:
    """A process and the size of the data set drawn from it.

    splits: videos per split. lengths: fewest and most clips of a video. phi: AR(1) coefficient of errors and nuisance.
    nuisance: standard deviation of each of `nuisance_dims` directions. noise: standard deviation of the white noise.
    one_target_a_video: each video is labelled for one target, and the splits count videos per target.
    """

    streams: Mapping[str, Stream]
    targets: Mapping[str, Score]
    splits: Mapping[str, int]
    lengths: tuple[int, int]
    phi: float
    nuisance: float = 1.0
    nuisance_dims: int = 2
    noise: float = 1.0
    one_target_a_video: bool = False


def _streams(visual: int, audio: int, flow: int) -> dict[str, Stream]:
    return {
        "visual": Stream(visual, shared_error=0.65, own_error=0.05),
        "audio": Stream(audio, shared_error=1.10, own_error=0.05),
        "flow": Stream(flow, shared_error=0.85, own_error=0.05),
    }


# Technical scores lean on what is seen, programme components on the music; the order is visual, audio, flow.
_MIXED = (0.19, 0.085, 0.14)
_TECHNICAL = (0.21, 0.07, 0.15)
_MUSICAL = (0.18, 0.11, 0.12)

PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        streams=_streams(16, 12, 16),
        targets={"score": Score(0, 100, 0.55, _MIXED)},
        splits={"train": 1000, "valid": 200, "test": 600},
        lengths=(8, 12),
        phi=0.5,
        noise=0.5,
    ),
    # Grades in the place of scores, for models whose own task is classification.
    "graded": Preset(
        streams=_streams(16, 12, 16),
        targets={"grade": Score(0, 3, 0.55, _MIXED, grades=4)},
        splits={"train": 600, "valid": 200, "test": 1200},
        lengths=(8, 12),
        phi=0.5,
        noise=0.5,
    ),
    "fisv": Preset(
        streams=_streams(1024, 768, 1024),
        targets={"TES": Score(0, 45, 0.54, _TECHNICAL), "PCS": Score(0, 40, 0.56, _MUSICAL)},
        splits={"train": 400, "test": 100},
        lengths=(87, 124),
        phi=0.9,
        nuisance_dims=8,
    ),
    # Fis-V's lengths and training videos at a sixteenth of its channels, with more videos to test on: for comparisons
    # of many models, which at full width take days on a CPU.
    "fisv_small": Preset(
        streams=_streams(64, 48, 64),
        targets={"TES": Score(0, 45, 0.54, _TECHNICAL), "PCS": Score(0, 40, 0.56, _MUSICAL)},
        splits={"train": 400, "valid": 100, "test": 400},
        lengths=(87, 124),
        phi=0.9,
        nuisance_dims=8,
    ),
    "rg": Preset(
        streams=_streams(1024, 768, 1024),
        targets={
            "Ball": Score(0, 25, 0.55, _MIXED),
            "Clubs": Score(0, 25, 0.54, _TECHNICAL),
            "Hoop": Score(0, 25, 0.53, _MIXED),
            "Ribbon": Score(0, 25, 0.56, _MUSICAL),
        },
        splits={"train": 200, "test": 50},
        lengths=(48, 68),
        phi=0.9,
        nuisance_dims=8,
        one_target_a_video=True,
    ),
    "fs1000": Preset(
        streams=_streams(768, 768, 1024),
        targets={
            "TES": Score(0, 130, 0.54, _TECHNICAL),
            "PCS": Score(0, 60, 0.56, _MUSICAL),
            "SS": Score(0, 10, 0.55, _MIXED),
            "TR": Score(0, 10, 0.54, _MIXED),
            "PE": Score(0, 10, 0.55, _MUSICAL),
            "CO": Score(0, 10, 0.54, _MUSICAL),
            "IN": Score(0, 10, 0.57, _MUSICAL),
        },
        splits={"train": 1000, "test": 247},
        lengths=(67, 95),
        phi=0.9,
        nuisance_dims=8,
    ),
}


def find_preset(name: str) -> Preset | MomentPreset:
    """The preset called `name`, of either process; AqaError with the nearest name otherwise."""
    presets: dict[str, Preset | MomentPreset] = {**PRESETS, **MOMENTS}
    if name not in presets:
        raise AqaError(f"unknown synthetic preset '{name}': {nearest(name, presets)}")
    return presets[name]


def quality_correlation(preset: Preset, target: str, subset: Collection[str]) -> float:
    """rho, the correlation of quality with the best prediction from the modalities in `subset`.

    Independent reports of s add their precisions 1/error, and a signal of variance 1 seen with precision p is explained
    to the part p / (1 + p). The parts add up to rho^2, the squared correlation of E[q | subset] with q.
    """
    score = preset.targets[target]
    precision = sum(1 / preset.streams[m].shared_error for m in subset)
    explained = score.shared * precision / (1 + precision)
    for modality, own in zip(preset.streams, score.own, strict=True):
        if modality in subset:
            explained += own / (1 + preset.streams[modality].own_error)
    return math.sqrt(explained)


def ceiling_srcc(preset: Preset, target: str, subset: Collection[str]) -> float:
    """The highest Spearman correlation with `target` that any prediction from the modalities in `subset` can have.

    Spearman's correlation of two jointly normal variables is 6/pi asin(rho/2) (Pearson 1907).
    """
    rho, grades = quality_correlation(preset, target, subset), preset.targets[target].grades
    return best_srcc(rho, grades) if grades else 6 / math.pi * math.asin(rho / 2)


def ceilings(preset: Preset, target: str) -> dict[str, float]:
    """`ceiling_srcc` of every non-empty subset, by the initials of its modalities: VAF, VA, VF, AF, V, A, F."""
    modalities = list(preset.streams)
    return {
        name: ceiling_srcc(preset, target, list(itertools.compress(modalities, subset)))
        for name, subset in subsets(modalities).items()
    }


def ar1_information(length: int, phi: float) -> float:
    """1' Sigma^-1 1 of a stationary AR(1) error of unit variance: 1 / variance of the best mean of `length` clips."""
    return 1.0 if length == 1 else (length - (length - 2) * phi) / (1 + phi)


def simulate(
    preset: Preset, n: int, length: int, rng: np.random.Generator, seed: int = 0
) -> tuple[dict[str, Clips], dict[str, Floats]]:
    """Draw n videos of `length` clips.

    Returns features (n, T, D) by modality and quality q (n,), of mean 0 and variance 1, by target. rng draws the
    videos; seed the fixed directions and offsets, as in `make_synthetic`.
    """
    evidence = _draw_evidence(preset, n, rng)
    features = {m: _draw_clips(preset, m, evidence, length, rng, seed) for m in preset.streams}
    return features, {target: _quality(preset, target, evidence) for target in preset.targets}


def make_synthetic(
    preset: str,
    out: str | os.PathLike[str],
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    samples: int | None = None,
) -> Path:
    """Write a synthetic feature store with its ceilings, and return its path.

    samples: keep only the first so many videos per split (per split and target if each video has one target). A video
    is the same whether others are written or not. progress(1) is called after each stream. The same seed gives the same
    data. Raises AqaError for an unknown preset, a negative seed, no samples, and where `out` exists and `overwrite` is
    false.
    """
    process = find_preset(preset)
    if seed < 0 or (samples is not None and samples < 1):
        raise AqaError(f"a synthetic store needs a seed of 0 or more and 1 sample or more, got {seed} and {samples}")
    rows = videos(process, samples)
    lengths = np.array([generator(seed, LENGTH, v.number).integers(*process.lengths, endpoint=True) for v in rows])
    if isinstance(process, MomentPreset):
        drawn = draw_moments(process, rows, lengths, seed)
    else:
        drawn = _draw(process, rows, lengths, seed)
    write_store(
        out,
        name=f"synthetic-{preset}",
        source=f"{drawn.process}, preset {preset}, seed {seed}{drawn.remark}",
        ids=[v.id for v in rows],
        modalities={m: Modality(s.width, lengths, extractor="synthetic") for m, s in process.streams.items()},
        targets={name: _target(process, name, rows, drawn) for name in process.targets},
        splits={split: [i for i, v in enumerate(rows) if v.split == split] for split in process.splits},
        read=drawn.read,
        moments=drawn.moments,
        overwrite=overwrite,
        progress=progress,
    )
    return Path(out)


def _draw(process: Preset, rows: list[Video], lengths: NDArray[np.int64], seed: int) -> DrawnVideos:
    evidence = np.concatenate([_draw_evidence(process, 1, generator(seed, EVIDENCE, v.number)) for v in rows])
    index = {modality: i for i, modality in enumerate(process.streams)}

    def read(modality: str, row: int) -> Clips:
        rng = generator(seed, CLIPS, rows[row].number, index[modality])
        return _draw_clips(process, modality, evidence[row : row + 1], int(lengths[row]), rng, seed)[0]

    return DrawnVideos(
        process="linear-Gaussian process",
        quality={target: _quality(process, target, evidence) for target in process.targets},
        ceilings={target: ceilings(process, target) for target in process.targets},
        read=read,
    )


def _draw_evidence(preset: Preset, n: int, rng: np.random.Generator) -> Floats:
    """s, every u_m and every target's e, (n, 1 + M + targets)."""
    return rng.standard_normal((n, 1 + len(preset.streams) + len(preset.targets)))


def _quality(preset: Preset, target: str, evidence: Floats) -> Floats:
    seen = 1 + len(preset.streams)
    columns = [*range(seen), seen + list(preset.targets).index(target)]
    return evidence[:, columns] @ preset.targets[target].weights


def _target(process: Preset | MomentPreset, name: str, rows: list[Video], drawn: DrawnVideos) -> Target:
    score = process.targets[name]
    if isinstance(score, Score) and score.grades:
        values = grade_of(drawn.quality[name], score.grades)
    else:  # five standard deviations on either side: the range is not left in practice, so nothing need be clipped
        values = (score.low + score.high) / 2 + (score.high - score.low) / 10 * drawn.quality[name]
    values[[v.target not in (None, name) for v in rows]] = np.nan
    return Target(values, score.low, score.high, drawn.ceilings[name])


def _draw_clips(
    preset: Preset, modality: str, evidence: Floats, length: int, rng: np.random.Generator, seed: int
) -> Clips:
    """Features of one modality, (n, T, D), for evidence (n, 1 + M + targets)."""
    position, stream, n = list(preset.streams).index(modality), preset.streams[modality], len(evidence)
    basis, offset = mixing(stream.width, 2 + preset.nuisance_dims, position, seed)
    latent = ar1(rng.standard_normal((n, length, 2 + preset.nuisance_dims)), preset.phi)
    errors = np.sqrt(np.array([stream.shared_error, stream.own_error]) * ar1_information(length, preset.phi))
    latent[:, :, :2] = evidence[:, None, [0, 1 + position]] + errors * latent[:, :, :2]
    latent[:, :, 2:] *= preset.nuisance
    clips = rng.standard_normal((n, length, stream.width), dtype=np.float32)
    clips *= np.float32(preset.noise)
    # The white noise loses its part along A, so that the two signals have no other error than the one stated.
    latent[:, :, :2] -= clips @ basis[:, :2]
    clips += latent.astype(np.float32) @ basis.T
    clips += offset
    return clips
