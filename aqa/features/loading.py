"""From a store into the tensors that models are fed from, at the speed of memory, every number checked on the way."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError

BYTES_AT_ONCE = 2**20  # bytes that are read, and then checked while they are in the processor's cache
STAGING = 16 * 2**20  # bytes of pinned memory through which a GPU is fed, twice
THREADS = 4
ALIGNMENT = 64  # bytes: what any type of number needs, and a line of the cache


class Source(Protocol):
    """Where features come from: what a `FeatureStore` says of its streams, and how they are read from it."""

    @property
    def path(self) -> object: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def widths(self) -> Mapping[str, int]: ...
    @property
    def dtypes(self) -> Mapping[str, str]: ...
    @property
    def offsets(self) -> Mapping[str, NDArray[np.int64]]: ...
    def __len__(self) -> int: ...
    def clip_seconds(self, modality: str) -> float: ...
    def chunk(self, modality: str) -> int: ...
    def read_into(self, modality: str, first: int, out: NDArray[np.floating[Any]]) -> None: ...


def allocate(count: int, device: torch.device) -> Tensor:
    """`count` bytes, some at least, not set. numpy asks for huge pages, which are ready sooner than torch's own."""
    count = max(count, ALIGNMENT)
    if device.type == "cpu":
        return torch.from_numpy(np.empty(count, np.uint8))
    return torch.empty(count, dtype=torch.uint8, device=device)


def mapped(count: int, device: torch.device) -> Tensor:
    """As `allocate`, but of memory that goes back to the system when it is let go of.

    What malloc is given back it keeps where something small was put behind it: some batches more than are in use.
    """
    if device.type != "cpu" or not hasattr(mmap, "MAP_PRIVATE"):
        return allocate(count, device)
    memory = mmap.mmap(-1, max(count, ALIGNMENT), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.from_numpy(np.frombuffer(memory, np.uint8))


def shaped(memory: Tensor, place: int, clips: int, width: int, dtype: torch.dtype) -> Tensor:
    """The bytes (n,) from `place` on, a multiple of ALIGNMENT, as features (clips, width)."""
    return memory[place : place + clips * width * dtype.itemsize].view(dtype).view(clips, width)


def disk_type(store: Source, modality: str) -> torch.dtype:
    """float16 or float32, as the store gives a modality; float32 for one that it lacks."""
    return torch.float16 if store.dtypes.get(modality) == "float16" else torch.float32


def fill(store: Source, modality: str, first: int, out: Tensor, threads: int = THREADS) -> None:
    """Read the clips from number `first` on into out (n, D), on any device, of the store's type or wider.

    threads: at most so many, and no more than there are processors. AqaError, naming the video, where one holds NaN or
    infinity.
    """
    width, dtype = store.widths[modality], disk_type(store, modality)
    bytes_at_once = BYTES_AT_ONCE if out.device.type == "cpu" else STAGING
    step = _step(store, modality, bytes_at_once // max(width * dtype.itemsize, 1))
    cuts = [0, *range(step - first % step, len(out), step), len(out)]
    spans = [slice(a, b) for a, b in pairwise(cuts) if b > a]

    def read(span: slice, part: Tensor) -> None:
        store.read_into(modality, first + span.start, part.numpy())
        _check(store, modality, first + span.start, part.numpy())

    if out.device.type != "cpu":
        _through_pinned_memory(read, spans, step, out, dtype)
        return

    def read_block(span: slice) -> None:
        part = out[span]
        if out.dtype == dtype:
            read(span, part)
        else:
            narrow = torch.empty(part.shape, dtype=dtype)
            read(span, narrow)
            part.copy_(narrow)

    def read_share(share: list[slice]) -> None:
        for span in share:
            read_block(span)

    # Most of the time goes into the system's copying and clearing of pages, which threads share: each has a stretch of
    # its own, as two that enter the same page would both clear it.
    each = max(-(-len(spans) // min(threads, _processors())), 1)
    shares = [spans[k : k + each] for k in range(0, len(spans), each)]
    if len(shares) <= 1:
        for share in shares:
            read_share(share)
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            for _ in pool.map(read_share, shares):
                pass


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _step(store: Source, modality: str, clips: int) -> int:
    """About so many clips, at least one, in whole chunks of the file."""
    chunk = store.chunk(modality)
    return max(clips // chunk, 1) * chunk


def _through_pinned_memory(
    read: Callable[[slice, Tensor], None], spans: list[slice], step: int, out: Tensor, dtype: torch.dtype
) -> None:
    """Read one half of a pinned buffer while the other is on its way to the GPU."""
    clips = min(step, len(out))
    halves = [torch.empty(clips, out.shape[1], dtype=dtype, pin_memory=True) for _ in range(min(2, len(spans)))]
    copied = [torch.cuda.Event() for _ in halves]
    for number, span in enumerate(spans):
        half, done = halves[number % 2], copied[number % 2]
        done.synchronize()
        part = half[: span.stop - span.start]
        read(span, part)
        out[span].copy_(part, non_blocking=True)
        done.record(torch.cuda.current_stream(out.device))
    for done in copied:
        done.synchronize()


def _check(store: Source, modality: str, first: int, part: NDArray[np.floating[Any]]) -> None:
    """AqaError if part (n, D), the clips from number `first` on, holds NaN or infinity."""
    if not all_finite(part):
        clip = first + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
        row = int(np.searchsorted(store.offsets[modality], clip, "right")) - 1
        raise AqaError(f"{store.path}: {modality} of '{store.ids[row]}' holds NaN or inf; see aqa inspect")


def all_finite(values: NDArray[np.floating[Any]]) -> bool:
    """Whether an array of float32 or float16 holds neither NaN nor infinity.

    They alone have every bit of the exponent set, so that as integers they are the largest of their sign. Looking for
    the largest writes nothing, unlike `isfinite`, and takes one thread, unlike torch's sums.
    """
    bits = 8 * values.itemsize
    exponent = {32: 0x7F800000, 16: 0x7C00}[bits]
    positive, negative = values.view(f"i{bits // 8}"), values.view(f"u{bits // 8}")
    return bool(positive.max(initial=0) < exponent and negative.max(initial=0) < exponent + (1 << bits - 1))
