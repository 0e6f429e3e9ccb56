"""Experiment files to try a program with: right ones from all over what may be said, and ones with a mistake in them.

What is right is written down here a second time, by hand and apart from `aqa.config`, so that one checks the other.
"""

from __future__ import annotations

import copy
import random
import string
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
UNALIGNED = ("actionmae", "dimml", "late_fusion", "mea", "mome", "ridge", "simmlm")  # take streams of any lengths

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
    **{f"{part}_weight": [0, 0.3, 1.0] for part in ("reconstruction", "kl", "mse", "shared", "contrast", "agnostic")},
    **{f"{part}_weight": [0, 0.3, 1.0] for part in ("exclusive", "expert", "self", "mutual", "unimodal")},
}
NAN, INFINITE = float("nan"), float("inf")
BAD_OPTIONS: dict[str, list[Any]] = {
    "hidden_dim": [0, -4, "x", 2.5, [], None],
    "n_head": [0, -1, 3, "x", None],
    "n_query": [0, -1, 1, "x"],
    "dropout": [-0.1, 1.5, "x", None, NAN],
    "feedforward_dim": [-3, 0, "x", 1.5],
    "alphas": [[], [0], "x", [NAN]],
    "n_encoder": [-1, "x", None, 0.5],
    "n_decoder": [-1, "x", None],
    "n_level": [-1, "x"],
    "n_fusion": [-1, "x"],
    "alpha": ["x", NAN, None],
    "margin": ["x", INFINITE],
    "rate": [-1, 1, 2, "x"],
    "mask_padding": ["x", 5, None],
    "prediction": [-1, 2],
    "mofe_weight": [-1, 1],
    "warmup_epochs": [0, -1],
}
ALWAYS_SMALL = ("hidden_dim", "n_head", "n_encoder", "n_decoder", "n_temporal", "n_fusion", "n_level")


@dataclass(frozen=True)
class Key:
    """What may stand under a key of an experiment file, and what may not. huge: enormous values that end soon."""

    good: list[Any]
    bad: list[Any] = field(default_factory=list)
    optional: bool = False  # whether null is as good as nothing
    huge: list[Any] = field(default_factory=list)


TEXT = [[], ["a"], {"a": 1}, 3]
WHOLE = ["many", [1], {"a": 1}, 2.5, "", float("nan"), float("inf"), -1]
REAL = ["much", [0.1], {"a": 1}, "", float("nan"), float("inf"), -0.5]
WORD = ["zzz", 3, [], {"a": 1}, "", 1.5]
GREAT = [10**9, 2**63, 2**64, 10**30, 10**400, 1e300]
KEYS: dict[str, Key] = {
    "name": Key(["run", "a-{target}", "{model}/{seed}", "Kür ⛸", "x y"], [*TEXT, "{tarjet}", "{", "{0}"]),
    "output": Key(["out", "deep/er/out"], TEXT, optional=True),
    "data.store": Key(["three.h5", "cut.h5"], [*TEXT, "gone.h5", "e.yaml", ".", ""]),
    "data.target": Key([*TARGETS], [*TEXT, "Score", "", "scor"]),
    "data.clips": Key([1, 2, 4, 9], [*WHOLE, 0], optional=True, huge=[10**9, 10**12, 2**63, 10**30]),
    "data.align": Key(["shortest"], WORD),
    "data.standardize": Key([True, False], ["perhaps", [], {}, 7]),
    "data.validation": Key([0.2, 0.4, 0.6], [*REAL, 0, 1, 7], huge=GREAT),
    "data.memory": Key([1e-6, 5], [*REAL, 0], optional=True, huge=[*GREAT, 1e-300]),
    "model.name": Key([], [*WORD, "MCMoE ", "mcmoe2"]),
    "train.epochs": Key([1], [*WHOLE, 0]),
    "train.batch_size": Key([1, 2, 5, 64], [*WHOLE, 0], huge=GREAT),
    "train.optimizer": Key(["adam", "adamw"], WORD),
    "train.learning_rate": Key([1e-5, "2e-4", 0.01], [*REAL, 0], huge=[1e30, 1e300, 1e-300, 5e-324]),
    "train.final_learning_rate": Key([0, 0.01, 1], [*REAL, 1.5], huge=GREAT),
    "train.weight_decay": Key([0, 1e-4, 0.1], REAL, huge=[1e30, 1e300]),
    "train.gradient_clip": Key([0.1, 5], [*REAL, 0], optional=True, huge=[1e300, 1e-300]),
    "train.patience": Key([1, 3], [*WHOLE, 0], optional=True, huge=GREAT),
    "train.seed": Key([0, 1, 12345, 2**31, 2**63 - 1], WHOLE, huge=GREAT),
    "train.device": Key(["auto", "cpu"], WORD),
    "train.threads": Key([1], [*WHOLE, 0], optional=True),
    "select.split": Key(["test", "train"], [*TEXT, "tset", ""]),
    "select.metric": Key(["srcc", "mse"], [*WORD, "mae"]),
    "select.pattern": Key(["complete"], [*TEXT, "nothing", "va", ""]),
    "tracking.wandb": Key(["disabled"], WORD),
    "tracking.project": Key(["aqa", "ünïcode"], TEXT),
    "tracking.entity": Key(["me"], TEXT, optional=True),
    "tracking.group": Key(["g"], TEXT, optional=True),
    "tracking.tags": Key([[], ["a", "b"]], ["a", {"a": 1}, [1], [None]]),
}
REQUIRED = ("name", "data.store", "data.target")
SECTIONS = ("data", "model", "missing", "train", "select", "tracking")


@dataclass(frozen=True)
class Case:
    """A file (its text or its bytes) with overrides, what must come of it, and words that a message must have."""

    kind: str
    text: str | bytes
    expected: Expected
    overrides: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def case_of(number: int, seed: int = 0) -> Case:
    """The case of a number: half of them right, the others with one mistake."""
    rng = random.Random(f"{seed} {number}")
    spec = experiment(rng)
    if number % 2 == 0:
        return right(rng, spec)
    return rng.choice(MUTATIONS)(rng, spec)


def right(rng: random.Random, spec: Settings) -> Case:
    """An experiment as it is, some of its keys given on the command line."""
    if rng.random() < 0.6:
        return Case("valid", text_of(spec), "valid")
    given = rng.sample([key for key in paths(spec) if key in KEYS and key not in REQUIRED], k=rng.choice([1, 2]))
    overrides = tuple(f"{key}={in_line(removed(spec, key))}" for key in given)
    return Case("valid with overrides", text_of(spec), "valid", overrides)


# Right ones


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


# Ones with a mistake


def misspelt(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice([key for key in paths(spec) if key in KEYS or key in SECTIONS or key.startswith("model.")])
    path = key.split(".")
    wrong = slip(rng, path[-1], {k.split(".")[-1] for k in KEYS} | set(SECTIONS) | set(OPTIONS))
    put(spec, ".".join([*path[:-1], wrong]), removed(spec, key))
    hints = {"model.name": ()}.get(key, (wrong,) if key.startswith("model.") else ("e.yaml", wrong))
    return Case("misspelt key", text_of(spec), "invalid", hints=hints)


def unknown(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice(["zzz", "clé", "Data", "data ", "1", "-", "é" * 300, "data.target", "a.b"])
    section = rng.choice(["", "data.", "train.", "select.", "missing."])
    holder = spec if not section else spec.setdefault(section[:-1], {})
    holder[key] = rng.choice([1, "x", None, {"a": 1}])
    return Case("unknown key", text_of(spec), "invalid", hints=("e.yaml",))


def without(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice([*REQUIRED, "data"])
    removed(spec, key)
    return Case("required key removed", text_of(spec), "invalid", hints=("e.yaml", key.split(".")[0]))


def less(rng: random.Random, spec: Settings) -> Case:
    removed(spec, rng.choice(paths(spec)))
    return Case("any key removed", text_of(spec), "either")


def wrong_value(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice(list(KEYS))
    value = rng.choice(KEYS[key].bad)
    if key == "data.validation":
        spec["data"]["store"] = "cut.h5"
    put(spec, key, value)
    if "targets" in spec and key != "data.target":
        del spec["targets"]
    # `model.name` and what the store has are found after the file was read, and named by what they are.
    return Case(
        "wrong type or out of range", text_of(spec), "invalid", hints=(key.split(".")[-1],) if "train" in key else ()
    )


def wrong_by_override(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice(list(KEYS))
    text = f"{key}={in_line(rng.choice(KEYS[key].bad))}"
    if key.endswith(("entity", "group", "output")) or key in ("name", "data.store"):
        text = f"{key}=[1]"
    spec.pop("targets", None)
    if key == "data.validation":
        spec["data"]["store"] = "cut.h5"
    if text.partition("=")[2].strip() == "''" and KEYS[key].optional:
        text = f"{key}=[1]"
    return Case("wrong override", text_of(spec), "invalid", (text,))


def broken_override(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice(list(KEYS))
    texts = [key, "=1", "", "=", f"{slip(rng, key, set(KEYS))}=1", f"{key}=[1", f"{key}={{", f"{key}=!!python/none x"]
    texts += [f".{key}=1", f"{key}.=1", f"{key}..x=1", f"{key.replace('.', '..')}.=1", " =1", f"{key}=*a", "ключ=1"]
    texts += [f"{key}=" + "[" * 3000, "train=1", "data=[]", "missing=x", f"{key}.deep.er=1"]
    return Case("broken override", text_of(spec), "invalid", (rng.choice(texts),))


def null(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice([*KEYS, *SECTIONS, "targets", "versions", "missing.train", "missing.test"])
    put(spec, key, None)
    if key == "data.store":
        spec.pop("targets", None)
    known = KEYS.get(key)
    free = key.startswith("missing.") or (known is not None and known.optional)
    return Case("null", text_of(spec), "either" if free else "invalid")


def wrapped(rng: random.Random, spec: Settings) -> Case:
    """A value in a list, in a mapping, a section inside another, or a key outside its section."""
    key = rng.choice([key for key in paths(spec) if key in KEYS and key != "tracking.tags"])
    kind = rng.randrange(4)
    if kind == 0:
        put(spec, key, [removed(spec, key)])
    elif kind == 1:
        put(spec, key, {"value": removed(spec, key)})
    elif kind == 2:
        section = rng.choice([s for s in SECTIONS if s in spec])
        inner = removed(spec, section)
        put(spec, f"{section}.{section}", inner)
        if section == "model":
            return Case("nested wrongly", text_of(spec), "invalid", hints=("model",))
    else:
        inside = [k for k in paths(spec) if k in KEYS and "." in k and k.split(".")[-1] not in ("name",)]
        moved = rng.choice(inside)
        spec[moved.split(".")[-1]] = removed(spec, moved)
    return Case("nested wrongly", text_of(spec), "invalid")


def enormous(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice([key for key, values in KEYS.items() if values.huge])
    put(spec, key, rng.choice(KEYS[key].huge))
    return Case("enormous number", text_of(spec), "either")


def wrong_name(rng: random.Random, spec: Settings) -> Case:
    changes: dict[str, Any] = {
        "model.name": slip(rng, spec["model"]["name"], set(MODELS.names())),
        "data.target": "scroe",
        "data.store": "thre.h5",
        "data.modalities": ["visual", "adio"],
        "select.split": "vlaid",
        "select.pattern": "averge",
        "missing.train": "random_subst",
        "missing.test": rng.choice(["VAFX", ["V", "V"], [], {"rates": 2}, {}, 7, [[]], ["V", ["A"]]]),
    }
    key = rng.choice(list(changes))
    if key in ("data.modalities", "missing.test"):
        spec["data"]["store"] = "three.h5"
        spec["data"].pop("modalities", None)
        spec.pop("select", None)
        spec["missing"] = {"train": "none"}
    put(spec, key, changes[key])
    return Case(f"wrong name: {key}", text_of(spec), "invalid")


def wrong_option(rng: random.Random, spec: Settings) -> Case:
    name = spec["model"]["name"]
    taken = option_names(MODELS.get(name).make)
    foreign = sorted(set(OPTIONS) - taken)
    mine = sorted(set(BAD_OPTIONS) & taken)
    if rng.random() < 0.3 or not mine:
        spec["model"][rng.choice(foreign)] = 1
        return Case("option of another model", text_of(spec), "invalid", hints=(name,))
    option = rng.choice(mine)
    spec["model"][option] = rng.choice(BAD_OPTIONS[option])
    return Case("wrong option", text_of(spec), "invalid", hints=(name,) if option == "mask_padding" else ())


def wrong_pattern(rng: random.Random, spec: Settings) -> Case:
    wrong: list[Any] = [{"rates": "x"}, {"rates": -1}, {"rates": {"nose": 0.5}}, {"rates": None}, {"rates": []}]
    wrong += [
        {"gaps": {}},
        {"gaps": {"fraction": 1}},
        {"gaps": {"fraction": "x"}},
        {"gaps": {"fration": 0.5}},
        {"gaps": 3},
    ]
    wrong += [{"noise": {"std": float("inf")}}, {"noise": {"std": 1, "affected": "visual"}}, {"noise": {"std": []}}]
    wrong += [{"shift": {"clips": 0.5}}, {"shift": {}}, {"only": []}, {"only": "XYZ"}, {"only": None}, {"only": [None]}]
    wrong += [{"only": {}}, {"only": [["V"]]}, {"fixed": {"pattern": "none", "sed": 1}}, {"fixed": {"pattern": 3}}]
    wrong += [{"fixed": {"pattern": "none", "seed": "x"}}, {"fixed": {"pattern": "none", "seed": 1.5}}, {"fixed": 5}]
    wrong += [{"combine": []}, {"combine": "none"}, {"combine": {}}, {"combine": [3]}, {"combine": None}, {}, 4, True]
    wrong += [[], ["none"], {"a": 1, "b": 2}, {None: 1}, {3: 1}, {"random_subset": 3}, {"random_subset": {"per": 1}}]
    wrong += [{"random_subset": {"only": []}}, {"random_subset": {"only": "V"}}, {"none": 3}, {"none": {"x": 1}}, 1.5]
    wrong += [nested("combine", 40, 3), nested("fixed", 40, 3)]
    put(spec, "missing.train", rng.choice(wrong))
    return Case("wrong pattern", text_of(spec), "invalid", hints=("missing.train",))


def deep(rng: random.Random, spec: Settings) -> Case:
    """What goes deeper than anybody would write, to the right thing or not."""
    levels = rng.choice([20, 100, 400, 2000])
    put(spec, "missing.train", None)
    inner = "{combine: [" * levels + "none" + "]}" * levels
    if rng.random() < 0.5:
        inner = "{fixed: " * levels + "none" + "}" * levels
    text = text_of(spec).replace("train: null", f"train: {inner}", 1)
    return Case("deep", text, "either")


def not_a_mapping(rng: random.Random, spec: Settings) -> Case:
    text = text_of(spec)
    wrong: list[str | bytes] = [
        "",
        " ",
        "\n\n",
        "# nothing\n",
        "---\n",
        "null",
        "[]",
        "- name",
        "5",
        "x",
        '"',
        "{",
        "}",
    ]
    wrong += ["\t" + text, text + "\n\t- x", text + "\nname: again\n", text + "\n? [a]\n: 1\n", text + "\n: 1\n"]
    wrong += [text + "\nx: &a 1\ny: *a\n", text + "\n<<: {a: 1}\n", text + "\noutput: !!python/name:os.system\n"]
    wrong += [text.encode() + b"\n\xff", b"\x00", text.encode("utf-16"), b"\x89HDF\r\n\x1a\n", text + "\n\x07: 1\n"]
    wrong += ["[" * 3000, "{a: " * 3000, text + "\n---\nname: second\n", "%YAML 9.9\n---\n" + text + "zz: 1\n"]
    return Case("no plain mapping", rng.choice(wrong), "invalid", hints=("e.yaml",))


def damaged_text(rng: random.Random, spec: Settings) -> Case:
    """The text cut off, or some of its characters changed: it may still be right."""
    text = list(text_of(spec))
    if rng.random() < 0.3:
        del text[rng.randrange(len(text)) :]
    for _ in range(rng.randint(0, 3)):
        if text:
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 2)] = rng.choice([*":-[]{}\n\t #'\"&*!|>%@`,?", "é", "\u2028", "0", "\\"])
    broken = "".join(text)
    # A number of epochs (or layers) that a digit was added to would be right, and long.
    safe = "epochs: 1\n" in broken and not any(f"{key}: {n}0" in broken for key in OPTIONS for n in (1, 2, 4, 8))
    return Case("damaged text", broken if safe else broken[:40], "either")


def odd_names(rng: random.Random, spec: Settings) -> Case:
    """Names that a file system or a format string trips over."""
    names = [
        "\0",
        "a\0b",
        "x" * 300,
        "x" * 5000,
        "..",
        ".",
        "/",
        "",
        " ",
        "a\nb",
        "{target!r}",
        "{seed:>9999999}",
        "{seed:x}",
    ]
    names += ["{model:q}", "{target.__class__}", "{seed:{seed}}", "\ud800", "a/../b", "~", "$HOME", "CON", "%s", "{{}}"]
    put(spec, rng.choice(["name", "output", "data.store", "data.target"]), rng.choice(names))
    spec.pop("targets", None)
    return Case("odd name", text_of(spec), "either")


MUTATIONS: list[Callable[[random.Random, Settings], Case]] = [
    misspelt, misspelt, unknown, without, less, wrong_value, wrong_value, wrong_value, wrong_by_override,
    broken_override, null, wrapped, wrapped, enormous, wrong_name, wrong_option, wrong_option, wrong_pattern, deep,
    not_a_mapping, damaged_text, damaged_text, odd_names,
]  # fmt: skip


# What they are made with


def nested(name: str, levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {name: [inner] if name == "combine" else inner}
    return inner


def slip(rng: random.Random, word: str, known: set[str]) -> str:
    """A word with a slip of the pen in it that is none of the known ones."""
    while True:
        at = rng.randrange(len(word))
        letter = rng.choice(string.ascii_lowercase)
        wrong = rng.choice(
            [
                word[:at] + word[at + 1 :],
                word[:at] + letter + word[at + 1 :],
                word[:at] + letter + word[at:],
                word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
            ]
        )
        if wrong and wrong not in known and wrong != word:
            return wrong


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
