"""What scripts hand to `write_store`, made plain: ids as texts, splits as row numbers, features as numpy arrays.

What can only mean one thing is converted: whole numbers and bytes as ids, lists and torch tensors as arrays, ids or a
boolean mask in the place of row numbers. All else is an AqaError that says what was given and what is expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, nearest
from aqa.names import check_name
from aqa.store.store import MOST_CHANNELS, MOST_MODALITIES, Modality, Target

TYPES = ("float32", "float16")


def plain_texts(values: Iterable[Any], what: str) -> list[str]:
    """Names as texts; whole numbers and bytes are written as they read."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise AqaError(f"{what} is {brief(values)}; expected a sequence of names")
    return [_text(value, f"{what}: entry {place}") for place, value in enumerate(_listed(values))]


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise AqaError(f"{where} is {brief(value)}, which is not UTF-8") from None
    if isinstance(value, str) or (isinstance(value, (int, np.integer)) and not isinstance(value, bool)):
        return str(value)
    raise AqaError(f"{where} is {brief(value)}, a {type(value).__name__}; a name is a text or a whole number")


def plain_type(dtype: Any) -> str:
    """The type in which features are kept."""
    try:
        name = str(np.dtype(dtype))
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in TYPES:
        raise AqaError(f"dtype is {brief(dtype)}: features are kept as {' or '.join(TYPES)}; {nearest(name, TYPES)}")
    return name


def plain_array(values: Any, where: str) -> NDArray[Any]:
    """An array of numbers from a list, a tensor or an array of any kind."""
    if hasattr(values, "detach"):  # a torch tensor, on any device
        values = values.detach().cpu()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = np.asarray(values, dtype=np.float64)
            if array.dtype == object:  # an array of objects in which arrays lie
                raise ValueError
    except (TypeError, ValueError):
        raise AqaError(f"{where} is {brief(values)}; expected an array of numbers") from None
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        raise AqaError(f"{where} is a masked array with masked numbers; fill them (values.filled(...)) first")
    if array.dtype.kind not in "biuf":
        raise AqaError(f"{where} is of type {array.dtype}; expected numbers")
    return array


def plain_modality(name: str, stream: Modality, samples: int) -> Modality:
    """Width and lengths checked and in numpy's types."""
    where = f"modality '{name}'"
    if not isinstance(stream, Modality):
        raise AqaError(f"{where} is {brief(stream)}; expected a Modality(width, lengths)")
    width = stream.width
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or not 1 <= width <= MOST_CHANNELS:
        raise AqaError(f"{where} has width {brief(width)}; expected a whole number from 1 to {MOST_CHANNELS}")
    lengths = plain_array(stream.lengths, f"lengths of {where}")
    _require_one_per_sample(lengths, samples, f"lengths of {where}")
    if not np.all(np.isfinite(lengths)) or np.any(lengths != np.floor(lengths)) or np.any(lengths < 0):
        raise AqaError(f"lengths of {where} are not whole numbers from 0 on: {brief(lengths.tolist())}")
    seconds = stream.clip_seconds
    if seconds is not None and not (isinstance(seconds, (int, float, np.number)) and 0 < seconds < math.inf):
        raise AqaError(f"clip_seconds of {where} is {brief(seconds)}; expected seconds above 0")
    return replace(
        stream,
        width=int(width),
        lengths=lengths.astype(np.int64),
        extractor=None if stream.extractor is None else str(stream.extractor),
        clip_seconds=None if seconds is None else float(seconds),
    )


def plain_modalities(modalities: Mapping[Any, Modality], samples: int) -> dict[str, Modality]:
    """Every modality checked; at least one, and no more than a store may hold."""
    if not 1 <= len(modalities) <= MOST_MODALITIES:
        raise AqaError(f"modalities: {len(modalities)} are given; a store holds 1 to {MOST_MODALITIES}")
    names = plain_texts(modalities, "modalities")
    return {name: plain_modality(name, m, samples) for name, m in zip(names, modalities.values(), strict=True)}


def plain_targets(targets: Mapping[Any, Target], samples: int) -> dict[str, Target]:
    """Every target with its values (N,) as float64, None and NaN if unlabelled."""
    found = {}
    for name, target in zip(plain_texts(targets, "targets"), targets.values(), strict=True):
        where = f"target '{name}'"
        if not isinstance(target, Target):
            raise AqaError(f"{where} is {brief(target)}; expected a Target(values, low, high)")
        values = plain_array(target.values, where)
        _require_one_per_sample(values, samples, where)
        low, high = (_number(bound, f"the range of {where}") for bound in (target.low, target.high))
        if not low < high:
            raise AqaError(f"the range of {where} is {low:g} to {high:g}; expected the lower bound first")
        ceiling = {str(k): _number(v, f"the ceiling of {where}") for k, v in target.ceiling.items()}
        spread = None if target.spread is None else plain_array(target.spread, f"the spread of {where}")
        if spread is not None:
            _require_one_per_sample(spread, samples, f"the spread of {where}")
            if (spread < 0).any() or np.isinf(spread).any():
                raise AqaError(f"the spread of {where} holds {brief(spread.min())}; expected numbers from 0 on, or NaN")
            spread = spread.astype(np.float64)
        found[name] = Target(values.astype(np.float64), low, high, ceiling, spread)
    return found


def plain_splits(splits: Mapping[Any, Any], ids: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Every split as row numbers, from row numbers, ids or a boolean mask (N,)."""
    names = plain_texts(splits, "splits")
    rows = {i: row for row, i in enumerate(ids)}
    return {name: _rows(each, ids, rows, f"split '{name}'") for name, each in zip(names, splits.values(), strict=True)}


def plain_groups(groups: Mapping[Any, Any], samples: int) -> dict[str, list[str]]:
    """Every group's labels (N,) as texts, "" where it is not known to whom a sample belongs."""
    names = plain_texts(groups, "groups")
    return {name: _labels(each, samples, f"group '{name}'") for name, each in zip(names, groups.values(), strict=True)}


def plain_moments(moments: Mapping[Any, Any], modalities: Mapping[str, Modality]) -> dict[str, NDArray[np.uint8]]:
    """For some modalities which clips decide the score, 1 or 0 for each clip of all samples (sum of lengths,)."""
    found = {}
    for name, masks in moments.items():
        if name not in modalities:
            raise AqaError(f"moments name the modality {brief(name)}: {nearest(str(name), modalities)}")
        lengths = modalities[name].lengths
        if isinstance(masks, (str, bytes)) or not isinstance(masks, Sequence) or len(masks) != len(lengths):
            raise AqaError(
                f"moments of '{name}' are {brief(masks)}; expected a mask for each of {len(lengths)} samples"
            )
        arrays = [plain_array(mask, f"moments of '{name}', row {row}") for row, mask in enumerate(masks)]
        for row, (mask, length) in enumerate(zip(arrays, lengths, strict=True)):
            if mask.shape != (length,) or mask.dtype != bool:
                raise AqaError(
                    f"moments of '{name}', row {row}: {mask.dtype} of shape {mask.shape}; "
                    f"expected a boolean for each of {length} clips"
                )
        found[str(name)] = np.concatenate([np.zeros(0, bool), *arrays]).astype(np.uint8)
    return found


def _labels(given: Any, samples: int, where: str) -> list[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise AqaError(f"{where} is {brief(given)}; expected one label for each sample")
    labels = plain_texts(["" if label is None else label for label in _listed(given)], where)
    if len(labels) != samples:
        raise AqaError(f"{where}: {len(labels)} labels for {samples} ids; expected one for each")
    for label in labels:
        check_name(label, f"{where}: label")
    return [label.strip() for label in labels]


def _rows(given: Any, ids: Sequence[str], rows: Mapping[str, int], where: str) -> NDArray[np.int64]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise AqaError(f"{where} is {brief(given)}; expected row numbers, ids or a boolean mask")
    members = _listed(given)
    if all(isinstance(member, (str, bytes)) for member in members):
        texts = [_text(member, where) for member in members]
        for text in texts:
            if text not in rows:
                raise AqaError(f"{where} names '{text}', which is not among the ids: {nearest(text, ids)}")
        return np.array([rows[text] for text in texts], dtype=np.int64)
    array = plain_array(given if hasattr(given, "detach") else members, where)
    if array.dtype == bool:
        _require_one_per_sample(array, len(ids), f"the mask of {where}")
        return np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise AqaError(f"{where} is {brief(given)}; expected row numbers, ids or a boolean mask")
    outside = array[(array < 0) | (array >= len(ids))]
    if len(outside):
        raise AqaError(f"{where} names row {outside[0]}; rows are 0 to {len(ids) - 1}")
    return array.astype(np.int64)


def _listed(values: Iterable[Any]) -> list[Any]:
    """The entries, in Python's types where numpy or torch wrap them."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _require_one_per_sample(array: NDArray[Any], samples: int, where: str) -> None:
    if array.shape != (samples,):
        column = "; a column (N, 1) becomes (N,) by values.ravel()" if array.shape == (samples, 1) else ""
        raise AqaError(f"{where}: {_shape(array)} for {samples} ids; expected one number for each{column}")


def _shape(array: NDArray[Any]) -> str:
    return f"{len(array)} values" if array.ndim == 1 else f"an array of shape {array.shape}"


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise AqaError(f"{where} holds {brief(value)}; expected finite numbers")
    return float(value)
