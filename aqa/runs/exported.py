"""The folder that `aqa export --format safetensors` writes: what is in it, written and read in this one place.

model.safetensors holds every tensor, under the place that it has in the content: checkpoints.0.weights.NAME.
config.json holds all else; in it {"tensor": NAME} stands in the place of a tensor. Nothing in either is unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from aqa.errors import AqaError, first_line, needed
from aqa.system.files import has_file, plain, written_whole

CONFIG_JSON, WEIGHTS = "config.json", "model.safetensors"
EXPORT_FORMAT = "aqa-export-1"
MOST_JSON = 64 * 2**20  # bytes
TENSOR = "tensor"


class _ExportedForm(pydantic.BaseModel):
    """What an exported folder holds, its tensors in place."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, strict=True)
    format: str
    level: float
    calibrated_by: str | None
    plugins: list[str]
    checkpoints: list[dict[str, Any]] = pydantic.Field(min_length=1)
    tested: list[dict[str, Any]] | None = pydantic.Field(default=None, min_length=1)


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is one that was exported."""
    return all((Path(path) / name).is_file() for name in (CONFIG_JSON, WEIGHTS))


def write_exported(folder: Path, content: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write config.json and model.safetensors into a folder. about: what else config.json says, for readers."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    told = _without_tensors({"format": EXPORT_FORMAT, **about, **content}, "", tensors)
    with written_whole(folder / WEIGHTS) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    with written_whole(folder / CONFIG_JSON) as partial:
        partial.write_text(json.dumps(plain(told), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Content with names in the place of its tensors, which are added to `tensors`."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().clone().contiguous()  # in memory of its own, as the format asks for
        return {TENSOR: place}
    prefix = f"{place}." if place else ""
    if isinstance(value, Mapping):
        return {str(key): _without_tensors(inner, f"{prefix}{key}", tensors) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(inner, f"{prefix}{number}", tensors) for number, inner in enumerate(value)]
    return value


def exported_content(folder: Path) -> _ExportedForm:
    """What was exported, its tensors in place; AqaError, one line, where it is not what `write_exported` writes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / CONFIG_JSON
    has_file(path)
    if path.stat().st_size > MOST_JSON:
        raise AqaError(f"{path} has more than {MOST_JSON} bytes; it is not what aqa export writes")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise AqaError(f"{folder} is not what aqa export writes: {first_line(error)}") from None
    if not isinstance(told, dict) or told.get("format") != EXPORT_FORMAT:
        form = told.get("format") if isinstance(told, dict) else None
        raise AqaError(f"{path}: format {form} is not {EXPORT_FORMAT}, which this version reads")
    try:
        content = _ExportedForm.model_validate(_with_tensors(told, tensors))
    except KeyError as error:
        raise AqaError(f"{folder / WEIGHTS} has no tensor {error}, which {CONFIG_JSON} names") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AqaError(f"{path}: {'.'.join(map(str, first['loc']))}: {needed(first)}") from None
    for checkpoint in content.checkpoints:  # JSON has lists only
        checkpoint["label_range"] = _paired(checkpoint.get("label_range"))
        statistics = checkpoint.get("statistics")
        if isinstance(statistics, dict):
            checkpoint["statistics"] = {name: _paired(pair) for name, pair in statistics.items()}
    return content


def _paired(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_tensors(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {TENSOR} and isinstance(value[TENSOR], str):
            return tensors[value[TENSOR]]
        return {key: _with_tensors(inner, tensors) for key, inner in value.items()}
    return [_with_tensors(inner, tensors) for inner in value] if isinstance(value, list) else value
