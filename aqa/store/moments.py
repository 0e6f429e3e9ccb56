"""Synthetic performances in which moments matter: elements at a few clips decide the score, the rest is filler.

A performance has E elements. Element i is worth

    v_i = sqrt(a) s_i + sum_m sqrt(b_m) u_im - sqrt(c) (f_i - p) / sqrt(p (1 - p)),      a + sum_m b_m + c + d = 1,

where s_i is how well it was done, as every stream shows it, u_im what only modality m shows of it, and f_i whether it
ended in a fall, of probability p. s and u are standard normal. The quality of the performance is

    q = sum_i v_i / sqrt(E) + sqrt(d) e,        with judges' noise e that no stream shows.

A stream shows an element at one clip: flow its onset, visual one clip later, audio one or two clips after that. This
clip has a mark of fixed strength, s_i and u_im with an error each, and in visual and flow the fall. Everything else is
filler, and independent of q:

- look-alikes: each stream has D further clips with a mark and with s, u and f of the same distribution. They count
  nothing, and no other stream shows them. A single stream cannot tell them from elements; two streams can, by time.
- all other clips have no mark. They vary in the directions of s and u by a `filler` part of what elements do. In visual
  and flow some of them, a share `low`, look like a fall: going down to the ice costs nothing outside an element.

Channels are x_t = offset + A latent_t + B nuisance_t + noise_t: A (D, 3 or 4) holds the directions of mark, s, u and
f, B (D, K) AR(1) nuisance, both orthonormal, and the noise is white in the complement of A, as in `synthetic`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aqa.store.draws import CLIPS, EVIDENCE, Clips, DrawnVideos, Floats, Video, ar1, generator, mixing

SLOT = 4  # clips that an element takes, from its onset to its last sound; elements and look-alikes do not overlap
MARK, SHARED, OWN, FALL = range(4)  # directions of a stream; one that shows no falls has the first three

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MomentStream:
    """How a modality shows elements.

    width: channels D. at: the first and last clip of an element's slot at which it may be shown. shared_error,
    own_error: variance of the errors of s and u, which have variance 1. falls: whether falls can be seen in it.
    """

    width: int
    at: tuple[int, int]
    shared_error: float
    own_error: float
    falls: bool


@dataclass(frozen=True)
class MomentScore:
    """A target: its range, and the parts a, b_m, c of its variance; the judges' part is what is left of 1.

    ceiling: the best possible SRCC by pattern, as `python -m aqa.store.moment_ceilings` computes it.
    """

    low: float
    high: float
    shared: float
    own: tuple[float, ...]
    falls: float
    ceiling: Mapping[str, float] = field(default_factory=dict)

    @property
    def judges(self) -> float:
        return 1.0 - self.shared - sum(self.own) - self.falls


@dataclass(frozen=True)
class MomentPreset:
    """A process and the size of the data set drawn from it.

    splits: videos per split. lengths: fewest and most clips of a video. elements: E. look_alikes: D of each stream.
    fall: p. filler: standard deviation of the clips without a mark, as a part of an element's. low: the share of them
    that look like a fall. mark: how far a mark or a fall moves the features. phi: AR(1) coefficient of the nuisance.
    nuisance: standard deviation of each of `nuisance_dims` directions. noise: root mean square length of a clip's white
    noise, which is spread over all channels. one_target_a_video: each video is labelled for one target, and the splits
    count videos per target.
    """

    streams: Mapping[str, MomentStream]
    targets: Mapping[str, MomentScore]
    splits: Mapping[str, int]
    lengths: tuple[int, int]
    elements: int
    look_alikes: int
    fall: float = 0.15
    filler: float = 0.5
    low: float = 0.05
    mark: float = 3.0
    phi: float = 0.9
    nuisance: float = 0.5
    nuisance_dims: int = 4
    noise: float = 2.0
    one_target_a_video: bool = False

    @property
    def slots(self) -> int:
        """Elements, and the look-alikes of all streams."""
        return self.elements + self.look_alikes * len(self.streams)


@dataclass(frozen=True)
class Performances:
    """n performances of one length, features aside. Slots are numbered: E elements, then D look-alikes a stream.

    at: the clip at which each stream shows each slot (n, S, M). shared, own, falls: s (n, S), u (n, S, M), f (n, S).
    judges: e of every target (n, targets).
    """

    length: int
    at: Indices
    shared: Floats
    own: Floats
    falls: Mask
    judges: Floats


def _streams(visual: int, audio: int, flow: int) -> dict[str, MomentStream]:
    return {
        "visual": MomentStream(visual, at=(1, 1), shared_error=0.3, own_error=0.1, falls=True),
        "audio": MomentStream(audio, at=(2, 3), shared_error=0.6, own_error=0.1, falls=False),
        "flow": MomentStream(flow, at=(0, 0), shared_error=0.45, own_error=0.1, falls=True),
    }


# Technical scores lean on what is seen and on falls, programme components on the music; the order of a weight per
# modality is visual, audio, flow. best: the best possible SRCC of VAF, VA, VF, AF, V, A, F, as
# `python -m aqa.store.moment_ceilings` prints it, with standard errors up to 0.001.


def _mixed(low: float, high: float, *best: float) -> MomentScore:
    return MomentScore(low, high, shared=0.40, own=(0.14, 0.08, 0.10), falls=0.18, ceiling=_by_pattern(best))


def _technical(low: float, high: float, *best: float) -> MomentScore:
    return MomentScore(low, high, shared=0.40, own=(0.14, 0.04, 0.12), falls=0.22, ceiling=_by_pattern(best))


def _musical(low: float, high: float, *best: float) -> MomentScore:
    return MomentScore(low, high, shared=0.42, own=(0.12, 0.14, 0.10), falls=0.12, ceiling=_by_pattern(best))


def _by_pattern(best: Sequence[float]) -> dict[str, float]:
    return dict(zip(("VAF", "VA", "VF", "AF", "V", "A", "F"), best, strict=True))


_FISV = {
    "TES": _technical(0, 45, 0.9112, 0.8342, 0.8824, 0.8138, 0.6585, 0.4323, 0.6336),
    "PCS": _musical(0, 40, 0.8950, 0.8280, 0.8089, 0.8070, 0.6027, 0.5054, 0.5747),
}

CEILING_REMARK = "; best possible SRCC by simulation, standard error at most 0.001"

MOMENTS: dict[str, MomentPreset] = {
    "moments_tiny": MomentPreset(
        streams=_streams(16, 12, 16),
        targets={"score": _mixed(0, 100, 0.8984, 0.8319, 0.8471, 0.7990, 0.6614, 0.4758, 0.6220)},
        splits={"train": 500, "valid": 100, "test": 400},
        lengths=(26, 32),
        elements=3,
        look_alikes=1,
    ),
    "moments": MomentPreset(
        streams=_streams(64, 48, 64),
        targets=_FISV,
        splits={"train": 500, "valid": 100, "test": 400},
        lengths=(87, 124),
        elements=7,
        look_alikes=3,
    ),
    "moments_fisv": MomentPreset(
        streams=_streams(1024, 768, 1024),
        targets=_FISV,
        splits={"train": 400, "test": 100},
        lengths=(87, 124),
        elements=7,
        look_alikes=3,
    ),
    "moments_rg": MomentPreset(
        streams=_streams(1024, 768, 1024),
        targets={
            "Ball": _mixed(0, 25, 0.8984, 0.8319, 0.8474, 0.7991, 0.6447, 0.4623, 0.6078),
            "Clubs": _technical(0, 25, 0.9112, 0.8341, 0.8826, 0.8130, 0.6662, 0.4350, 0.6402),
            "Hoop": _mixed(0, 25, 0.8984, 0.8319, 0.8474, 0.7991, 0.6447, 0.4623, 0.6078),
            "Ribbon": _musical(0, 25, 0.8948, 0.8276, 0.8091, 0.8060, 0.6096, 0.5090, 0.5810),
        },
        splits={"train": 200, "test": 50},
        lengths=(48, 68),
        elements=5,
        look_alikes=2,
        one_target_a_video=True,
    ),
}


def draw_performances(preset: MomentPreset, n: int, length: int, rng: np.random.Generator) -> Performances:
    """n performances of `length` clips: where elements and look-alikes are, and what they are worth."""
    slots, streams = preset.slots, list(preset.streams.values())
    # Every way to lay the slots into the clips is equally likely: choose which of places and free clips are slots.
    places = slots + length - SLOT * slots
    chosen = np.sort(np.argsort(rng.random((n, places)), axis=1)[:, :slots], axis=1)
    starts = rng.permuted(chosen + (SLOT - 1) * np.arange(slots), axis=1)
    delay = [rng.integers(*stream.at, size=(n, slots), endpoint=True) for stream in streams]
    return Performances(
        length,
        at=starts[:, :, None] + np.stack(delay, axis=-1),
        shared=rng.standard_normal((n, slots)),
        own=rng.standard_normal((n, slots, len(streams))),
        falls=rng.random((n, slots)) < preset.fall,
        judges=rng.standard_normal((n, len(preset.targets))),
    )


def shown_by(preset: MomentPreset, modality: str) -> Indices:
    """The slots that a stream shows: the elements, and its own look-alikes (E + D,)."""
    first = preset.elements + preset.look_alikes * list(preset.streams).index(modality)
    return np.concatenate([np.arange(preset.elements), np.arange(first, first + preset.look_alikes)])


def quality(preset: MomentPreset, target: str, drawn: Performances) -> Floats:
    """q (n,), of mean 0 and variance 1."""
    score, elements, p = preset.targets[target], preset.elements, preset.fall
    falls = (drawn.falls[:, :elements] - p) / math.sqrt(p * (1 - p))
    worth = math.sqrt(score.shared) * drawn.shared[:, :elements] - math.sqrt(score.falls) * falls
    worth = worth + drawn.own[:, :elements] @ np.sqrt(score.own)
    judges = drawn.judges[:, list(preset.targets).index(target)]
    return worth.sum(axis=1) / math.sqrt(elements) + math.sqrt(score.judges) * judges


def marked_clips(preset: MomentPreset, modality: str, drawn: Performances) -> Mask:
    """The clips of a stream that show an element, (n, T)."""
    found = np.zeros((len(drawn.at), drawn.length), bool)
    at = drawn.at[:, : preset.elements, list(preset.streams).index(modality)]
    np.put_along_axis(found, at, True, axis=1)
    return found


def draw_clips(preset: MomentPreset, modality: str, drawn: Performances, rng: np.random.Generator, seed: int) -> Clips:
    """Features of one modality, (n, T, D)."""
    position, stream = list(preset.streams).index(modality), preset.streams[modality]
    directions, (n, length) = 3 + stream.falls, (len(drawn.at), drawn.length)
    basis, offset = mixing(stream.width, directions + preset.nuisance_dims, position, seed)
    latent = np.zeros((n, length, directions + preset.nuisance_dims))
    latent[:, :, :directions] = _filler(preset, stream, n, length, rng)
    latent[:, :, directions:] = preset.nuisance * ar1(
        rng.standard_normal((n, length, preset.nuisance_dims)), preset.phi
    )
    slots = shown_by(preset, modality)
    row = np.arange(n)[:, None]
    latent[row, drawn.at[:, slots, position], :directions] = _shown(preset, modality, drawn, slots, rng)
    clips = rng.standard_normal((n, length, stream.width), dtype=np.float32)
    clips *= np.float32(preset.noise / math.sqrt(stream.width))
    # The white noise loses its part along A: nothing but the stated errors is between the latent numbers and a reader.
    latent[:, :, :directions] -= clips @ basis[:, :directions]
    clips += latent.astype(np.float32) @ basis.T
    clips += offset
    return clips


def _filler(preset: MomentPreset, stream: MomentStream, n: int, length: int, rng: np.random.Generator) -> Floats:
    """Latent numbers of clips without a mark, (n, T, 3 or 4)."""
    latent = np.zeros((n, length, 3 + stream.falls))
    spread = preset.filler * np.sqrt([1 + stream.shared_error, 1 + stream.own_error])
    latent[:, :, [SHARED, OWN]] = spread * rng.standard_normal((n, length, 2))
    if stream.falls:
        latent[:, :, FALL] = preset.mark * (rng.random((n, length)) < preset.low)
    return latent


def _shown(
    preset: MomentPreset, modality: str, drawn: Performances, slots: Indices, rng: np.random.Generator
) -> Floats:
    """Latent numbers of the clips at which a stream shows something, (n, E + D, 3 or 4)."""
    position, stream = list(preset.streams).index(modality), preset.streams[modality]
    latent = np.zeros((len(drawn.at), len(slots), 3 + stream.falls))
    latent[:, :, MARK] = preset.mark
    errors = np.sqrt([stream.shared_error, stream.own_error]) * rng.standard_normal((*latent.shape[:2], 2))
    latent[:, :, SHARED] = drawn.shared[:, slots] + errors[:, :, 0]
    latent[:, :, OWN] = drawn.own[:, slots, position] + errors[:, :, 1]
    if stream.falls:
        latent[:, :, FALL] = preset.mark * drawn.falls[:, slots]
    return latent


def simulate_moments(
    preset: MomentPreset, n: int, length: int, rng: np.random.Generator, seed: int = 0
) -> tuple[dict[str, Clips], Performances]:
    """Draw n performances of `length` clips: features (n, T, D) by modality, and what is behind them."""
    drawn = draw_performances(preset, n, length, rng)
    return {m: draw_clips(preset, m, drawn, rng, seed) for m in preset.streams}, drawn


def draw_moments(preset: MomentPreset, rows: list[Video], lengths: Indices, seed: int) -> DrawnVideos:
    """The performances of a data set; a video is the same whether others are drawn or not."""
    drawn = [
        draw_performances(preset, 1, int(length), generator(seed, EVIDENCE, video.number))
        for video, length in zip(rows, lengths, strict=True)
    ]
    index = {modality: i for i, modality in enumerate(preset.streams)}

    def read(modality: str, row: int) -> Clips:
        rng = generator(seed, CLIPS, rows[row].number, index[modality])
        return draw_clips(preset, modality, drawn[row], rng, seed)[0]

    return DrawnVideos(
        process="performances of elements at moments",
        quality={t: np.concatenate([quality(preset, t, each) for each in drawn]) for t in preset.targets},
        ceilings={t: score.ceiling for t, score in preset.targets.items()},
        read=read,
        moments={m: [marked_clips(preset, m, each)[0] for each in drawn] for m in preset.streams},
        remark=CEILING_REMARK,
    )
