"""Videos that a program holds as arrays, in the place of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, nearest
from aqa.store.plain import plain_array

GivenVideo = Mapping[str, Any]  # stream -> clips (T, D), or None where the video lacks it


@dataclass(frozen=True)
class GivenVideos:
    """Streams of N videos in float32, to be read as those of a `FeatureStore` are.

    clips: modality -> clips of all videos, one after the other (n, D). offsets: where each video begins (N + 1,).
    seconds: how long a clip takes, by modality, where it is known.
    """

    ids: tuple[str, ...]
    clips: Mapping[str, NDArray[np.float32]]
    offsets: Mapping[str, NDArray[np.int64]]
    seconds: Mapping[str, float]
    path: str = "the videos given"

    @classmethod
    def of(cls, videos: Sequence[GivenVideo], widths: Mapping[str, int], seconds: Mapping[str, float]) -> GivenVideos:
        """Checked: AqaError for a stream that is not in widths, or is of another width, empty, or no numbers."""
        places = ["the video" if len(videos) == 1 else f"video {number}" for number in range(len(videos))]
        streams = [_checked(video, widths, place) for video, place in zip(videos, places, strict=True)]
        empty = {m: np.zeros((0, width), np.float32) for m, width in widths.items()}
        by_modality = {m: [video.get(m, empty[m]) for video in streams] for m in widths}
        return cls(
            tuple(places),
            {m: np.concatenate([empty[m], *parts]) for m, parts in by_modality.items()},
            {m: np.cumsum([0, *map(len, parts)], dtype=np.int64) for m, parts in by_modality.items()},
            dict(seconds),
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all streams, those that no video has among them."""
        return tuple(self.clips)

    @property
    def widths(self) -> dict[str, int]:
        """Channels D by modality."""
        return {m: clips.shape[1] for m, clips in self.clips.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """The type of the numbers by modality."""
        return dict.fromkeys(self.clips, "float32")

    def __len__(self) -> int:
        return len(self.ids)

    def clip_seconds(self, modality: str) -> float:
        """How long a clip of a modality takes, NaN if that is not known."""
        return self.seconds.get(modality, np.nan)

    def chunk(self, modality: str) -> int:
        """How many clips are to be read together: any can be read alone."""
        return 1

    def read_into(self, modality: str, first: int, out: NDArray[np.floating[Any]]) -> None:
        """The clips from number `first` on into out (n, D)."""
        out[:] = self.clips[modality][first : first + len(out)]


def _checked(video: GivenVideo, widths: Mapping[str, int], place: str) -> dict[str, NDArray[np.float32]]:
    """The streams that a video has."""
    if not isinstance(video, Mapping):
        example = f"{{'{next(iter(widths))}': x}}"
        raise AqaError(f"{place} is {brief(video)}; expected a mapping of streams to arrays, such as {example}")
    streams = {}
    for name, values in video.items():
        if name not in widths:
            raise AqaError(f"{place}: the model has no stream {brief(name)}: {nearest(str(name), widths)}")
        if values is not None:
            streams[name] = _clips(values, widths[name], f"{place}: {name}")
    if not streams:
        raise AqaError(f"{place} has no stream; one of {', '.join(widths)} is needed")
    return streams


def _clips(values: Any, width: int, where: str) -> NDArray[np.float32]:
    """A stream (T, D), T at least 1."""
    given = plain_array(values, where)
    if given.ndim != 2:
        raise AqaError(f"{where} has shape {given.shape}; expected (clips, {width})")
    if given.shape[1] != width:
        raise AqaError(f"{where} has {given.shape[1]} channels; the model was trained on {width}")
    if not len(given):
        raise AqaError(f"{where} has no clips; leave a stream out that a video lacks")
    with np.errstate(over="ignore"):
        clips = given.astype(np.float32)
    if not np.isfinite(clips).all():
        clip, channel = (int(at[0]) for at in np.nonzero(~np.isfinite(clips)))
        number = f"{given[clip, channel]:g} in clip {clip}, channel {channel}"
        raise AqaError(f"{where} holds {number}; expected finite numbers that float32 can hold")
    return clips
