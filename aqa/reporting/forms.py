"""What a run's metrics.json has to be for a report, as far as a report needs it."""

from __future__ import annotations

from typing import Annotated

import pydantic


class _MeasureForm(pydantic.BaseModel):
    value: float | None


class _RangesForm(pydantic.BaseModel):
    target: tuple[float, float]
    labels: tuple[float, float]


class _AreaForm(pydantic.BaseModel):
    rates: list[float] = pydantic.Field(min_length=2)
    patterns: list[str] = pydantic.Field(min_length=2)


Count = Annotated[int, pydantic.Field(ge=0)]


class _LevelForm(pydantic.BaseModel):
    level: float = pydantic.Field(gt=0, lt=1)
    covered: Count
    n: Count


class _IntervalForm(pydantic.BaseModel):
    covered: Count
    n: Count
    unbounded: Count
    width: float | None
    reliability: list[_LevelForm]


class _IntervalsForm(pydantic.BaseModel):
    level: float = pydantic.Field(gt=0, lt=1)
    why_none: str | None = None
    calibrated_on: list[str] = []
    videos: tuple[int, int] = (0, 0)
    selected_on_them: bool = False


class _PatternForm(pydantic.BaseModel):
    srcc: float | None
    mse: float | None
    rl2: float | None
    n: int
    ceiling: float | None = None
    measures: dict[str, _MeasureForm] = {}
    interval: _IntervalForm | None = None


class _AverageForm(pydantic.BaseModel):
    srcc: float | None
    patterns: int


class _SelectionForm(pydantic.BaseModel):
    split: str
    epoch: int | None  # None of a cross-validation, whose folds have their own
    epochs: int | None
    metric: str = ""
    pattern: str = ""
    value: float | None = None


class _FoldsForm(pydantic.BaseModel):
    description: str
    group: str | None
    groups: int | None


class _DataForm(pydantic.BaseModel):
    fingerprint: str | None = None


class _ImportedForm(pydantic.BaseModel):
    method: str
    file: str
    sha256: str


class Reported(pydantic.BaseModel):
    """metrics.json, as far as a report needs it."""

    patterns: dict[str, _PatternForm] = pydantic.Field(min_length=1)
    average_incomplete: _AverageForm
    selection: _SelectionForm
    data_set: str
    target: str
    model: str
    seed: int
    modalities: list[str] = pydantic.Field(min_length=1)
    router_weights: dict[str, list[list[float]]] = {}
    data: _DataForm = _DataForm()
    folds: _FoldsForm | None = None
    ranges: _RangesForm | None = None
    area_under_rates: _AreaForm | None = None
    learned_from: list[str] | None = None
    learned_also: int | None = None
    imported: _ImportedForm | None = None
    intervals: _IntervalsForm | None = None
