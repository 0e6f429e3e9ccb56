"""Experiment files to try a program with, from all over what may be said; `config_mistakes` spoils them.

What is right is written down here a second time, by hand and apart from `aqa.config`, so that one checks the other.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from aqa.models import MODELS
from aqa.registry import option_names

Expected = Literal["valid", "invalid", "either"]
Settings = dict[str, Any]

STORES = {"three": ["visual", "audio", "flow"], "cut": ["visual", "audio", "flow"], "alike": ["face", "flow"]}
STORES |= {"single": ["pose"]}
WITHOUT_VALID = ("cut", "single")
TARGETS = ("score", "grace")
UNALIGNED = (
    "actionmae",
    "dimml",
    "gaussian_process",
    "late_fusion",
    "mea",
    "mome",
    "ridge",
    "simmlm",
)  # take streams of any lengths

# Option -> values, for every model that takes it. An option that is not here stays at its default.
OPTIONS: dict[str, list[Any]] = {
    "hidden_dim": [4, 8],
    "n_head": [1, 2],
    "n_query": [2, 3],
    "feedforward_dim": [None, 6],
    "dropout": [0, 0.1, 0.5],
    "alpha": [0, 0.5, 2],
    "margin": [0, 1.5],
    "rate": [0, 0.5, 0.9],
    "prediction": [0, 0.5, 1],
    "mofe_weight": [0, 0.1, 0.4],
    "warmup_epochs": [3, 20],
    "stage_epochs": [0, 1, 10],
    "branch_epochs": [0, 2],
    "expert_epochs": [0, 2],
    "n_grade": [2, 5],
    "n_memory": [0, 2],
    "alphas": [[0.1], [1, 10.5]],
    "prototype_position": ["query", "batch_row"],
    "generator_queries": ["shared", "temporal"],
    **{key: [1, 2] for key in ("n_encoder", "n_decoder", "n_temporal", "n_fusion", "n_level")},
    **{key: [0.5, 2] for key in ("contrast_temperature", "certainty_temperature", "discriminator_rate")},
    **{key: [True, False] for key in ("mask_padding", "use_generator", "use_experts", "use_gate")},
    **{key: [True, False] for key in ("normalize_target", "stop_target")},
    "folds": [2, 3],
    **{f"{part}_weight": [0, 0.3, 1.0] for part in ("reconstruction", "kl", "mse", "shared", "contrast", "agnostic")},
    **{f"{part}_weight": [0, 0.3, 1.0] for part in ("exclusive", "expert", "self", "mutual", "unimodal")},
}
ALWAYS_SMALL = ("hidden_dim", "n_head", "n_encoder", "n_decoder", "n_temporal", "n_fusion", "n_level")


@dataclass(frozen=True)
class Key:
    """What may stand under a key of an experiment file, and what may not. huge: enormous values that end soon."""

    good: list[Any]
    bad: list[Any] = field(default_factory=list)
    optional: bool = False  # whether null is as good as nothing
    huge: list[Any] = field(default_factory=list)


TEXT = [[], ["a"], {"a": 1}]  # a number there is the text typed
#: Keys that take any text, so that an override of them is right whatever is typed.
ANY_TEXT = ("name", "output", "tracking.project", "tracking.entity", "tracking.group")
WHOLE = ["many", [1], {"a": 1}, 2.5, "", float("nan"), float("inf"), -1]
REAL = ["much", [0.1], {"a": 1}, "", float("nan"), float("inf"), -0.5]
WORD = ["zzz", 3, [], {"a": 1}, "", 1.5]
GREAT = [10**9, 2**63, 2**64, 10**30, 10**400, 1e300]
KEYS: dict[str, Key] = {
    "name": Key(
        ["run", "a-{target}", "{model}-{seed}", "Kür ⛸", "x y"], [*TEXT, "{tarjet}", "{", "{0}", "{model}/{seed}", ".."]
    ),
    "output": Key(["out", "deep/er/out"], TEXT, optional=True),
    "save_every": Key([0, 0.5, 30], REAL, optional=True, huge=GREAT),
    "figures": Key([True, False], ["perhaps", [], {}, 7]),
    "data.store": Key(["three.h5", "cut.h5"], [*TEXT, "gone.h5", "e.yaml", ".", ""]),
    "data.target": Key([*TARGETS], [*TEXT, "Score", "", "scor"]),
    "data.clips": Key([1, 2, 4, 9], [*WHOLE, 0], optional=True, huge=[10**9, 10**12, 2**63, 10**30]),
    "data.align": Key(["shortest"], WORD),
    "data.standardize": Key([True, False], ["perhaps", [], {}, 7]),
    "data.validation": Key([0.2, 0.4, 0.6], [*REAL, 0, 1, 7], huge=GREAT),
    "data.folds": Key([None], ["five", 5, [], {}, {"count": 1}, {"count": 2, "column": "fold"}, {"leave_out": "gone"}]),
    "data.learn_also": Key([None], ["score", 5, [], {}, ["zzz"], [1]]),
    "data.memory": Key([1e-3, 5], [*REAL, 0], optional=True, huge=[*GREAT, 1e-6, 1e-300]),
    "model.name": Key([], [*WORD, "MCMoE ", "mcmoe2"]),
    "train.epochs": Key([1], [*WHOLE, 0]),
    "train.batch_size": Key([1, 2, 5, 64], [*WHOLE, 0], huge=GREAT),
    "train.optimizer": Key(["adam", "adamw", "sgd"], WORD),
    "train.learning_rate": Key([1e-5, "2e-4", 0.01], [*REAL, 0], huge=[1e30, 1e300, 1e-300, 5e-324]),
    "train.final_learning_rate": Key([0, 0.01, 1], [*REAL, 1.5], huge=GREAT),
    "train.weight_decay": Key([0, 1e-4, 0.1], REAL, huge=[1e30, 1e300]),
    "train.gradient_clip": Key([0.1, 5], [*REAL, 0], optional=True, huge=[1e300, 1e-300]),
    "train.patience": Key([1, 3], [*WHOLE, 0], optional=True, huge=GREAT),
    "train.seed": Key([0, 1, 12345, 2**31, 2**63 - 1], WHOLE, huge=GREAT),
    "train.device": Key(["auto", "cpu"], WORD),
    "train.threads": Key([1], [*WHOLE, 0], optional=True),
    "train.warmup": Key([0, 2], WHOLE, huge=GREAT),
    # The others are not for every optimizer, schedule or model.
    "train.momentum": Key([0.9], [*REAL, 1]),
    "train.nesterov": Key([False], ["perhaps", [], {}, 7]),
    "train.schedule": Key(["cosine"], WORD),
    "train.steps": Key([None], [*WHOLE[2:], 0, "many", [0], [[]]]),
    "train.step_factor": Key([0.1], [*REAL, 0, 1.5]),
    "train.parts": Key([{}], ["head", [], 5, {"head": 1}, {"gone.part": {}}]),
    "train.stages": Key([[]], ["two", 5, {}, [{}, {}], [{"epochs": 1}, {}]]),
    "train.precision": Key(["float32"], WORD),
    "train.compile": Key([False], ["perhaps", [], {}, 7]),
    "train.ensemble": Key([1], [*WHOLE, 0, 101]),
    "select.split": Key(["test", "train"], [*TEXT, "tset", ""]),
    "select.metric": Key(["srcc", "mse"], [*WORD, "mae"]),
    "select.pattern": Key(["complete"], [*TEXT, "nothing", "va", ""]),
    "evaluate.metrics": Key([[], ["mae"], ["pearson", "kendall"]], ["mae", {"a": 1}, ["zzz"], ["mae", "mae"]]),
    "evaluate.intervals": Key([True, False], ["perhaps", [], {}, 7]),
    "evaluate.level": Key([0.5, 0.9, 0.99], [0, 1, -0.1, 90, "high", [], {}]),
    "tracking.wandb": Key(["disabled"], WORD),
    "tracking.project": Key(["aqa", "ünïcode"], TEXT),
    "tracking.entity": Key(["me"], TEXT, optional=True),
    "tracking.group": Key(["g"], TEXT, optional=True),
    "tracking.tags": Key([[], ["a", "b"]], ["a", {"a": 1}, [{"a": 1}], [None]]),
}
REQUIRED = ("name", "data.store", "data.target")
SECTIONS = ("data", "model", "missing", "train", "select", "evaluate", "tracking")


@dataclass(frozen=True)
class Case:
    """A file (its text or its bytes) with overrides, what must come of it, and words that a message must have."""

    kind: str
    text: str | bytes
    expected: Expected
    overrides: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def right(rng: random.Random, spec: Settings) -> Case:
    """An experiment as it is, some of its keys given on the command line."""
    if rng.random() < 0.6:
        return Case("valid", text_of(spec), "valid")
    given = rng.sample([key for key in paths(spec) if key in KEYS and key not in REQUIRED], k=rng.choice([1, 2]))
    overrides = tuple(f"{key}={in_line(removed(spec, key))}" for key in given)
    return Case("valid with overrides", text_of(spec), "valid", overrides)


def experiment(rng: random.Random) -> Settings:
    """A right experiment, from anywhere in the space of them, that takes a moment to run."""
    store = rng.choice(list(STORES))
    modalities = STORES[store]
    name = rng.choice(MODELS.names())
    spec: Settings = {"data": {"store": f"{store}.h5"}, "model": {"name": name, **model_options(rng, name)}}
    for key, values in KEYS.items():
        if values.good and key not in ("data.store", "select.pattern") and (key in REQUIRED or rng.random() < 0.4):
            put(spec, key, rng.choice(values.good))
    spec.setdefault("train", {})["epochs"] = 1
    if rng.random() < 0.3:
        chosen = modalities = rng.sample(modalities, k=rng.randint(1, len(modalities)))
        spec["data"]["modalities"] = chosen
    if name in UNALIGNED and rng.random() < 0.3:
        spec["data"]["align"] = "none"
    if rng.random() < 0.7 or len(modalities) == 1:
        put(spec, "missing.train", pattern(rng, modalities))
    if "fixed" in str(spec.get("missing")):  # it may take away all of a modality, which has no deviation then
        spec["data"].pop("standardize", None)
    if rng.random() < 0.7:
        put(spec, "missing.test", test_patterns(rng, modalities))
    if rng.random() < 0.3:
        put(spec, "select.pattern", rng.choice([*names_of(modalities), "complete"]))
    if rng.random() < 0.2:
        other = {"train": {"learning_rate": 1e-3}, "model": {}}
        spec["targets"] = {spec["data"]["target"]: other, "third": {}}
    if rng.random() < 0.1:
        spec["versions"] = {"aqa": "0"}
    return shuffled(rng, spec)


def model_options(rng: random.Random, name: str) -> Settings:
    taken = sorted(option_names(MODELS.get(name).make) & set(OPTIONS))
    return {key: rng.choice(OPTIONS[key]) for key in taken if key in ALWAYS_SMALL or rng.random() < 0.3}


def names_of(modalities: list[str]) -> list[str]:
    """The names of subsets: initials, or whole names where two begin alike."""
    first = [m[0].upper() for m in modalities]
    short, joint = (first, "") if len(set(first)) == len(first) else (modalities, "+")
    rows = range(1, 2 ** len(modalities))
    return [joint.join(s for i, s in enumerate(short) if row >> i & 1) for row in rows]


def pattern(rng: random.Random, modalities: list[str], depth: int = 0) -> Any:
    """Any missing pattern for training."""
    some = rng.sample(modalities, k=rng.randint(1, len(modalities)))
    named = names_of(modalities)
    kinds: list[Callable[[], Any]] = [
        lambda: rng.choice(["none", "all_subsets", "complete", None]),
        lambda: {"only": rng.sample(named, k=rng.randint(1, len(named)))},
        lambda: {"random_subset": {"per": rng.choice(["batch", "sample"]), "include_complete": True}},
        lambda: {"rates": rng.choice([0, 0.4, 0.99, {m: rng.random() for m in some}])},
        lambda: {"gaps": {"fraction": rng.choice([0, 0.3, 0.9]), "affected": some}},
        lambda: {"noise": {"std": rng.choice([0, 0.5, 10])}},
        lambda: {"shift": {"clips": rng.choice([-2, 0, 3]), "random": rng.random() < 0.5}},
    ]
    if len(modalities) > 1:
        kinds.append(lambda: "random_subset")
    if depth < 2:
        kinds.append(lambda: {"fixed": pattern(rng, modalities, depth + 1)})
        kinds.append(lambda: {"fixed": {"pattern": pattern(rng, modalities, depth + 1), "seed": rng.randint(0, 9)}})
        kinds.append(lambda: {"combine": [pattern(rng, modalities, depth + 1) for _ in range(rng.randint(1, 3))]})
    return rng.choice(kinds)()


def test_patterns(rng: random.Random, modalities: list[str]) -> Any:
    """What may be tested under: every subset, some of them, or one other pattern."""
    named = names_of(modalities)
    some = rng.sample(named, k=rng.randint(1, len(named)))
    return rng.choice(["all_subsets", some, some[0], pattern(rng, modalities), [*some, {"rates": 0.5}]])


# What they are made with


def paths(spec: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of sections and of what they hold."""
    found = []
    for key, value in spec.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict) and not prefix and key in SECTIONS:
            found += paths(value, f"{key}.")
    return found


def put(spec: Settings, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = spec.get(section)
        spec = spec.setdefault(section, {}) if isinstance(inner, dict) or inner is None else spec
    spec[last] = value


def removed(spec: Settings, key: str) -> Any:
    """The value of a key, which is taken out."""
    *sections, last = key.split(".")
    for section in sections:
        spec = spec[section]
    return spec.pop(last)


def shuffled(rng: random.Random, spec: Settings) -> Settings:
    keys = list(spec)
    rng.shuffle(keys)
    return {key: spec[key] for key in keys}


def text_of(spec: Settings) -> str:
    return yaml.safe_dump(copy.deepcopy(spec), sort_keys=False, allow_unicode=True, width=10**6)


def in_line(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def sweep(rng: random.Random) -> Settings:
    """A right sweep of a few runs."""
    axes: Settings = {
        "train.seed": [0, 1],
        "data.target": rng.choice(["all", ["score"]]),
        "part": {"plain": {}, "slow": {"train.learning_rate": 1e-5}},
        "missing.train": ["none", {"rates": 0.5}],
    }
    spec: Settings = {"name": "s", "experiments": ["e.yaml"]}
    spec["grid"] = {key: axes[key] for key in rng.sample(list(axes), k=rng.randint(0, 3))}
    if rng.random() < 0.5:
        spec["set"] = {"train.batch_size": rng.choice([4, 8])}
    if rng.random() < 0.3:
        spec["include"] = [{"train.seed": 7}]
    if rng.random() < 0.3:
        spec["rules"] = [{"when": {"train.seed": 0}, "set": {"train.weight_decay": 0}}]
    if rng.random() < 0.3 and "train.seed" in spec["grid"]:
        spec["exclude"] = [{"train.seed": 1}]
    return spec
