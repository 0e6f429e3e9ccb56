"""Sweeps and searches as configurations for agents of Weights & Biases; `aqa run` is their program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from aqa.config.dialect import dump
from aqa.config.overrides import as_override
from aqa.config.schema import SelectConfig
from aqa.errors import AqaError
from aqa.names import as_file_name
from aqa.runs.load import load
from aqa.sweeps.grid import Settings, Sweep, axis_values
from aqa.sweeps.searches import Search, Tune
from aqa.sweeps.space import Choices, Range
from aqa.system.files import write_text
from aqa.system.saying import silent

WandbMethod = Literal["grid", "random", "bayes"]


def wandb_sweeps(sweep: Sweep, folder: Path, method: WandbMethod = "grid") -> dict[str, dict[str, Any]]:
    """The sweep whose file is in `folder`, by base experiment, to be searched by a method of Weights & Biases.

    AqaError for what such a configuration cannot say: named settings, include, exclude, rules and vectorize.
    """
    for key in ("include", "exclude", "rules", "vectorize"):
        if getattr(sweep, key):
            raise AqaError(
                f"sweep '{sweep.name}': a sweep of Weights & Biases knows no {key}; leave them out to export"
            )
    exported = {}
    for file in sweep.experiments:
        path = folder / file
        parameters, first = {}, {}
        for axis, values in sweep.grid.items():
            if isinstance(values, dict):
                raise AqaError(f"sweep '{sweep.name}': a sweep of Weights & Biases knows no named settings ({axis})")
            named = axis_values(axis, values, path, sweep.set)
            parameters[axis] = {"values": [settings[axis] for settings in named.values()]}
            first[axis] = parameters[axis]["values"][0]
        select = load(path, {**sweep.set, **first}, silent).select
        common = {"tracking.group": sweep.name, **sweep.set}
        exported[path.stem] = _exported(f"{sweep.name}-{path.stem}", method, select, path, common, parameters)
    return exported


def wandb_searches(plan: Tune, searches: Sequence[Search], method: WandbMethod = "bayes") -> dict[str, dict[str, Any]]:
    """The searches of a tune file, by name, each with the same number of runs. AqaError for a grid of a range."""
    exported = {}
    for search in searches:
        parameters = {key: _parameter(key, span, method) for key, span in search.space.items()}
        select = search.experiment.select
        content = _exported(f"{plan.name}-{search.name}", method, select, search.path, search.fixed, parameters)
        exported[search.name] = {**content, "run_cap": plan.trials}
    return exported


def _parameter(key: str, span: Choices | Range, method: WandbMethod) -> dict[str, Any]:
    if isinstance(span, Choices):
        return {"values": list(span.values.values())}
    if method == "grid":
        raise AqaError(f"a grid of Weights & Biases needs a list of values for {key}, not a range; use random or bayes")
    kinds = {"log": "log_uniform_values", "float": "uniform", "int": "int_uniform"}
    return {"distribution": kinds[span.scale], "min": span.low, "max": span.high}


def _exported(
    name: str,
    method: WandbMethod,
    select: SelectConfig,
    path: Path,
    settings: Settings,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """A configuration. Its metric is the one that selects the epoch, never one of the test split unless that does."""
    if method not in ("grid", "random", "bayes"):
        raise AqaError(f"method is {method!r}; Weights & Biases has grid, random and bayes")
    common = [as_override(key, value) for key, value in {"tracking.wandb": "online", **settings}.items()]
    return {
        "name": name,
        "method": method,
        "metric": {
            "name": f"{select.split}_{select.metric}",
            "goal": "minimize" if select.metric == "mse" else "maximize",
        },
        "program": "aqa",
        "command": ["${env}", "aqa", "run", str(path), *common, "${args_no_hyphens}"],
        "parameters": dict(parameters),
    }


def write_wandb(sweeps: Mapping[str, Mapping[str, Any]], folder: Path) -> list[str]:
    """Write sweeps for agents of Weights & Biases, a file each in `folder`.

    Returns a line per file that says how to start it. AqaError if a file exists.
    """
    lines = []
    for content in sweeps.values():
        path = folder / f"{as_file_name(content['name'])}.yaml"
        if path.exists():
            raise AqaError(f"{path} exists; name another folder with --export-wandb (in Python: export_wandb)")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, dump(content))
        lines.append(f"{path}: start it with `wandb sweep {path}`, then `wandb agent` on each machine")
    return lines
