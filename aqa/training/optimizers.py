"""Optimizers as torch has them, without loading torch's compiler, and the parameters that each part learns by.

The methods of torch's optimizers are wrapped, so that a compiled program may call them. The first call of a wrapped
method imports `torch._dynamo`, which takes about a second and some memory. Here no optimizer is compiled, so these have
the same methods without the wrappers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from aqa.config.schema import PartConfig, TrainConfig
from aqa.errors import AqaError, nearest
from aqa.models import AQAModel

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def never_compiled(optimizer: type[Kind]) -> type[Kind]:
    """An optimizer that computes the same as a given one, for programs that do not compile it."""
    names = ("add_param_group", "zero_grad", "step", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    methods["step"] = torch.no_grad()(methods["step"])  # which one of the wrappers did
    return type(optimizer.__name__, (optimizer,), methods)


Adam = never_compiled(torch.optim.Adam)
AdamW = never_compiled(torch.optim.AdamW)
SGD = never_compiled(torch.optim.SGD)


def optimizer_of(model: AQAModel, settings: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for, with a group for each part that learns in its own way."""
    groups = parameter_groups(model, settings.learning_rate, settings.parts)
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "sgd":
        return SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    return {"adam": Adam, "adamw": AdamW}[settings.optimizer](groups, **common)


def parameter_groups(
    model: AQAModel, learning_rate: float, parts: Mapping[str, PartConfig] | None = None
) -> list[dict[str, Any]]:
    """The parameters that learn at the given rate, then a group for each part with a rate or weight decay of its own.

    parts: by their names in the model, before what the model says itself. A parameter in two parts, one inside the
    other, belongs to the inner one. AqaError for a part that the model does not have.
    """
    ways = {part: PartConfig(learning_rate_factor=factor) for part, factor in model.learning_rate_factors.items()}
    ways.update(parts or {})
    owners: dict[torch.nn.Parameter, str] = {}
    for part in sorted(ways, key=lambda name: name.count(".")):
        owners.update(dict.fromkeys(parameters_of(model, part), part))
    groups = [{"params": [weight for weight in model.parameters() if weight not in owners], "lr": learning_rate}]
    for part, way in ways.items():
        group: dict[str, Any] = {"params": [weight for weight, owner in owners.items() if owner == part]}
        group["lr"] = way.learning_rate_factor * learning_rate
        if way.weight_decay is not None:
            group["weight_decay"] = way.weight_decay
        groups.append(group)
    return groups


def parameters_of(model: torch.nn.Module, part: str) -> list[torch.nn.Parameter]:
    """What a part of a model learns; AqaError for a part that it does not have, or that learns nothing."""
    named = dict(model.named_modules())
    found = list(named[part].parameters()) if part in named and part else []
    if not found:
        learning = [name for name, module in named.items() if name and next(module.parameters(), None) is not None]
        raise AqaError(f"train.parts: the model has no part '{part}' that learns: {nearest(part, learning)}")
    return found
