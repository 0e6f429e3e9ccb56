"""Experiment and sweep files with one mistake in them, and cases by number."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

from aqa.models import MODELS
from aqa.registry import option_names
from stress.config_cases import (
    ANY_TEXT,
    KEYS,
    OPTIONS,
    REQUIRED,
    SECTIONS,
    Case,
    Settings,
    experiment,
    in_line,
    paths,
    put,
    removed,
    right,
    sweep,
    text_of,
)

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


def case_of(number: int, seed: int = 0) -> Case:
    """The case of a number: half of them right, the others with one mistake."""
    rng = random.Random(f"{seed} {number}")
    spec = experiment(rng)
    if number % 2 == 0:
        return right(rng, spec)
    return rng.choice(MUTATIONS)(rng, spec)


def sweep_case_of(number: int, seed: int = 0) -> Case:
    """A sweep file over the experiment e.yaml: half of them right, the others with one mistake."""
    rng = random.Random(f"sweep {seed} {number}")
    spec = sweep(rng)
    if number % 2 == 0:
        return Case("sweep: valid", text_of(spec), "valid")
    wrong: dict[str, Any] = {
        "name": rng.choice([None, 3, [], "a/../../b"]),
        "experiments": rng.choice([[], None, "e.yaml", ["gone.yaml"], [3], {"e.yaml": 1}]),
        "set": rng.choice([3, [], "x", {"train.epoch": 1}, {"train.epochs": "x"}, {3: 1}, {"a": {"b": 1}}]),
        "grid": rng.choice([3, [], {"train.seed": 3}, {"train.sed": [1]}, {"train.seed": []}, {"model.name": "all"}]),
        "include": rng.choice([3, {}, [3], [{"train.sed": 1}]]),
        "exclude": rng.choice([3, {}, [3], [{"train.seed": 99}], [{"nothing": 1}]]),
        "rules": rng.choice([3, {}, [3], [{"when": {}}], [{"set": {}}], [{"when": {}, "set": {"train.sed": 1}}]]),
        "vectorize": rng.choice(["seed", 3, [], {}]),
        "launcher": rng.choice([3, {}, {"ray": 3}, {"ray": {"cpus": 0}}, {"rey": {}}, {"ray": {"address": "x"}}]),
        "output": rng.choice([3, [], {}]),
        "expermients": ["e.yaml"],
        "grids": {},
    }
    key = rng.choice(list(wrong))
    spec[key] = wrong[key]
    odd = spec[key] == "a/../../b" or (key == "exclude" and not spec[key])
    return Case(f"sweep: {key}", text_of(spec), "either" if odd else "invalid")


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
    return Case("wrong override", text_of(spec), "either" if key in ANY_TEXT else "invalid", (text,))


def broken_override(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice(list(KEYS))
    texts = [key, "=1", "", "=", f"{slip(rng, key, set(KEYS))}=1", f"{key}=[1", f"{key}={{", f"{key}=!!python/none x"]
    texts += [f".{key}=1", f"{key}.=1", f"{key}..x=1", f"{key.replace('.', '..')}.=1", " =1", f"{key}=*a", "ключ=1"]
    texts += [f"{key}=" + "[" * 3000, "train=1", "data=[]", "missing=x", f"{key}.deep.er=1"]
    return Case("broken override", text_of(spec), "invalid", (rng.choice(texts),))


def null(rng: random.Random, spec: Settings) -> Case:
    key = rng.choice([*KEYS, *SECTIONS, "targets", "versions", "missing.train", "missing.test"])
    spec.pop("targets", None)  # whose settings might take the mistake's place
    put(spec, key, None)
    known = KEYS.get(key)
    free = (
        key.startswith("missing.") or key in ANY_TEXT or (known is not None and (known.optional or None in known.good))
    )
    return Case("null", text_of(spec), "either" if free else "invalid")


def wrapped(rng: random.Random, spec: Settings) -> Case:
    """A value in a list, in a mapping, a section inside another, or a key outside its section."""
    spec.pop("targets", None)  # whose settings might take the mistake's place
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
    too_deep = [nested("combine", 40, 3), nested("fixed", 40, 3)]  # the file's line is named
    pattern = rng.choice([*wrong, *too_deep])
    put(spec, "missing.train", pattern)
    return Case("wrong pattern", text_of(spec), "invalid", hints=() if pattern in too_deep else ("missing.train",))


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
