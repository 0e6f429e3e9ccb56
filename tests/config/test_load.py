"""What an experiment file may say, what it means, and one clear line for every mistake."""

from __future__ import annotations

import pytest
import torch
import yaml

from aqa.config.load import load_experiment
from aqa.config.schema import DEFAULTS_OF_OLDER_RUNS, DataConfig, EvaluateConfig, Experiment, TrainConfig
from aqa.errors import AqaError

MINIMAL = "name: x\ndata:\n  store: s.h5\n  target: TES\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that writes an experiment file into the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="e.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def mistake(source, overrides=()):
    """The message of the mistake, which must be one line."""
    with pytest.raises(AqaError) as error:
        _ = load_experiment(source, overrides).title
    assert "\n" not in str(error.value)
    return str(error.value)


# What is right


def test_a_minimal_file_takes_the_published_defaults(file):
    experiment = load_experiment(file(MINIMAL))
    assert experiment.model.name == "mcmoe"
    assert experiment.missing.train == "random_subset"
    assert experiment.missing.test == "all_subsets"
    assert (experiment.train.batch_size, experiment.train.learning_rate, experiment.train.weight_decay) == (
        32,
        2e-4,
        1e-4,
    )
    assert (experiment.select.split, experiment.select.metric, experiment.select.pattern) == (
        "valid",
        "srcc",
        "complete",
    )
    assert experiment.tracking.wandb == "disabled"


def test_a_mapping_is_as_good_as_a_file_and_is_not_changed(file):
    given = yaml.safe_load(MINIMAL)
    assert (
        load_experiment(given, ["train.seed=4"]).resolved()
        == load_experiment(file(MINIMAL), ["train.seed=4"]).resolved()
    )
    assert given == yaml.safe_load(MINIMAL)


@pytest.mark.parametrize("written", ["2e-4", "2.0e-4", "0.0002", "'2e-4'"])
def test_scientific_notation_is_a_number_with_or_without_a_point(file, written):
    assert load_experiment(file(f"{MINIMAL}train: {{learning_rate: {written}}}\n")).train.learning_rate == 2e-4
    assert load_experiment(file(MINIMAL), [f"train.learning_rate={written}"]).train.learning_rate == 2e-4


def test_model_options_are_kept_for_the_model_to_check(file):
    model = load_experiment(file(MINIMAL + "model: {name: other, depth: 3, kinds: [a]}\n"), ["model.width=7"]).model
    assert model.name == "other"
    assert model.options == {"depth": 3, "kinds": ["a"], "width": 7}


def test_overrides_are_yaml_and_the_last_one_counts(file):
    overrides = [
        "train.epochs=5",
        "data.modalities=[audio, visual]",
        "missing.train={rates: {audio: 0.5}}",
        "train.epochs=7",
    ]
    experiment = load_experiment(file(MINIMAL), [*overrides, "output=a=b", "train.patience="])
    assert experiment.train.epochs == 7
    assert experiment.data.modalities == ["audio", "visual"]
    assert experiment.missing.train == {"rates": {"audio": 0.5}}
    assert experiment.output == "a=b"
    assert experiment.train.patience is None


TARGETS = """\
name: "{model}-{target}-{seed}"
data: {store: s.h5, target: TES, clips: 10}
train: {epochs: 1, seed: 1, batch_size: 4}
targets:
  TES: {train: {epochs: 2}}
  PCS:
    train: {epochs: 3, seed: 3}
    data: {clips: 30}
"""


def test_the_targets_overrides_beat_the_file_and_the_command_line_beats_both(file):
    name = file(TARGETS)
    own, other = load_experiment(name), load_experiment(name, ["data.target=PCS"])
    assert (own.train.epochs, own.train.seed, own.data.clips) == (2, 1, 10)
    assert (other.train.epochs, other.train.seed, other.data.clips) == (3, 3, 30)
    assert other.train.batch_size == 4
    last = load_experiment(name, ["train.epochs=9", "data.target=PCS"])
    assert (last.train.epochs, last.train.seed) == (9, 3)


def test_placeholders_in_the_name_are_filled_in(file):
    name = file(TARGETS)
    assert load_experiment(name).title == "mcmoe-TES-1"
    assert load_experiment(name, ["data.target=PCS", "train.seed=5"]).title == "mcmoe-PCS-5"


@pytest.mark.parametrize("name", ["{tarjet}", "{}", "{target", "{target.nothing}", "{target[x]}"])
def test_a_wrong_placeholder_is_a_mistake_that_lists_the_right_ones(file, name):
    said = mistake(file(MINIMAL), [f"name='a-{name}'"])
    assert said == f"name: 'a-{name}' has a placeholder that is not one of {{target}}, {{model}}, {{seed}}"


@pytest.mark.parametrize(
    "name", ["{seed:>9999999}", "{seed:{seed}}", "{target.__class__}", "{target!r}", "{0}", "{seed:,}", "{{target}"]
)
def test_a_placeholder_is_a_plain_one(file, name):
    assert "is not one of {target}, {model}, {seed}" in mistake(file(MINIMAL), [f"name='a-{name}'"])


def test_a_seed_may_be_padded(file):
    assert load_experiment(file(MINIMAL), ["name='a-{seed:03}'", "train.seed=7"]).title == "a-007"


@pytest.mark.parametrize("key", ["name", "output", "data.store", "data.target"])
def test_a_name_is_one_line_that_a_file_system_takes(file, key):
    for wrong in ("a\\nb", "a\\0b", "a\\u2028b", "\\x1b[31m"):
        said = mistake(file(MINIMAL), [f'{key}="{wrong}"'])
        assert f"{key}: control characters and line breaks are not accepted in a name" in said
    assert load_experiment(file(MINIMAL), [f"{key}=K\u00fcr \u26f8"])


def test_a_title_that_is_too_long_is_cut_in_the_message(file):
    said = mistake(file(MINIMAL), ["name=" + "x" * 5000])
    assert "has 5000 bytes; 200 are the most" in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("override", "bound"),
    [
        ("train.seed=9223372036854775808", "less than 9223372036854775808"),
        ("train.batch_size=2147483648", "less than 2147483648"),
        ("data.clips=1000000000000", "less than 2147483648"),
        ("train.patience=1" + "0" * 30, "less than 2147483648"),
    ],
)
def test_numbers_that_no_array_can_count_are_out_of_range(file, override, bound):
    said = mistake(file(MINIMAL), [override])
    assert bound in said
    assert len(said) < 600


def test_the_largest_seed_is_one_that_torch_takes(file):
    torch.manual_seed(load_experiment(file(MINIMAL), [f"train.seed={2**63 - 1}"]).train.seed)


def test_the_store_is_beside_the_experiment_file_if_it_is_there_else_in_the_working_folder(file, tmp_path):
    name = file(MINIMAL, "folder/e.yaml")
    assert load_experiment(name).data.store == str(tmp_path / "s.h5")
    (tmp_path / "s.h5").touch()
    assert load_experiment(name).data.store == str(tmp_path / "s.h5")
    (tmp_path / "folder" / "s.h5").touch()
    assert load_experiment(name).data.store == str(tmp_path / "folder" / "s.h5")
    assert load_experiment(yaml.safe_load(MINIMAL)).data.store == str(tmp_path / "s.h5")
    assert load_experiment(name, [f"data.store={tmp_path}/far.h5"]).data.store == str(tmp_path / "far.h5")


def test_the_resolved_experiment_survives_yaml(file):
    text = TARGETS.replace("targets:", "missing: {train: {rates: {audio: 0.5}}, test: [VA, V]}\ntargets:")
    experiment = load_experiment(file(text), ["train.learning_rate=3e-5", "model.dim=8", "train.gradient_clip=1"])
    written = yaml.safe_dump({**experiment.resolved(), "versions": {"aqa": "1"}})
    again = load_experiment(yaml.safe_load(written))
    assert again.resolved() == experiment.resolved()
    assert again == experiment.model_copy(update={"targets": {}, "versions": {"aqa": "1"}})
    assert load_experiment(file(written, "again.yaml")) == again


def test_the_resolved_experiment_leaves_out_what_decides_no_number(file):
    plain, tracked = file(MINIMAL), file(MINIMAL + "tracking: {wandb: offline}\noutput: here\n", "t.yaml")
    assert load_experiment(plain).resolved() == load_experiment(tracked).resolved()
    assert set(load_experiment(plain).resolved()) == set(Experiment.model_fields) - {
        "targets",
        "output",
        "versions",
        "tracking",
        "save_every",
        "figures",
        "fingerprint",
        "store_was_at",
        "model_options",
        "imported",
    }


# Mistakes in the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: x\ndata: {store: s, target: t}\n", "e.yaml, line 1: unknown key 'nam': did you mean 'name'?"),
        (MINIMAL + "  stroe: x\n", "e.yaml, line 5: unknown key 'data.stroe': did you mean 'store'?"),
        (MINIMAL + "missing: {tran: none}\n", "e.yaml, line 5: unknown key 'missing.tran': did you mean 'train'?"),
        (MINIMAL + "train:\n  epoch: 5\n", "e.yaml, line 6: unknown key 'train.epoch': did you mean 'epochs'?"),
        (
            MINIMAL + "train:\n  learningrate: 5\n",
            "e.yaml, line 6: unknown key 'train.learningrate': did you mean 'learning_rate'?",
        ),
        (MINIMAL + "select: {spilt: test}\n", "e.yaml, line 5: unknown key 'select.spilt': did you mean 'split'?"),
        (
            MINIMAL + "tracking: {zzz: 1}\n",
            "e.yaml, line 5: unknown key 'tracking.zzz': known: wandb, project, entity, group, tags",
        ),
        (
            MINIMAL + "targets:\n  TES:\n    train: {}\n    tran: {epochs: 3}\n",
            "e.yaml, line 8: unknown key 'tran': did you mean 'train'?",
        ),
        (
            MINIMAL + "targets:\n  TES:\n    train:\n      epoch: 3\n",
            "e.yaml, line 8: unknown key 'train.epoch': did you mean 'epochs'?",
        ),
        ("name: x\ndat: {store: s, target: t}\n", "e.yaml, line 2: unknown key 'dat': did you mean 'data'?"),
    ],
)
def test_an_unknown_key_at_any_level_is_named_with_its_line_and_the_nearest_one(file, text, message):
    assert mistake(file(text)) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "e.yaml: 'data' is missing"),
        ("name: x\ndata: {store: s.h5}\n", "e.yaml, line 2: 'data.target' is missing"),
        (MINIMAL + "train: {epochs: many}\n", "e.yaml, line 5: train.epochs: must be a whole number"),
        (MINIMAL + "train: {epochs: 2.5}\n", "e.yaml, line 5: train.epochs: must be a whole number"),
        (
            MINIMAL + "train: {epochs: 0}\n",
            "e.yaml, line 5: train.epochs: must be 1 or more, got 0",
        ),
        (
            MINIMAL + "train: {learning_rate: 0}\n",
            "e.yaml, line 5: train.learning_rate: must be more than 0, got 0",
        ),
        (
            MINIMAL + "train: {learning_rate: .nan}\n",
            "e.yaml, line 5: train.learning_rate: must be a finite number",
        ),
        (
            MINIMAL + "train: {weight_decay: .inf}\n",
            "e.yaml, line 5: train.weight_decay: must be a finite number",
        ),
        (
            MINIMAL + "train: {seed: -1}\n",
            "e.yaml, line 5: train.seed: must be 0 or more, got -1",
        ),
        (MINIMAL + "  validation: 1\n", "e.yaml, line 5: data.validation: must be less than 1, got 1"),
        (
            MINIMAL + "  modalities: visual\n",
            "e.yaml, line 5: data.modalities: must be a list, got 'visual'",
        ),
        (
            MINIMAL + "tracking:\n  tags: [a, {b: c}]\n",
            "e.yaml, line 6: tracking.tags.1: must be text, got {'b': 'c'}",
        ),
        (MINIMAL + "train: [1]\n", "e.yaml, line 5: train: a mapping of keys is needed (epochs, batch_size, "),
        (MINIMAL + "model: mcmoe\n", "e.yaml, line 5: model: a mapping of keys is needed (name), got 'mcmoe'"),
        (MINIMAL + "targets: [TES]\n", "e.yaml, line 5: targets: must be a mapping (key: value)"),
        (MINIMAL + "targets: {TES: 5}\n", "e.yaml, line 5: targets.TES: must be a mapping (key: value), got 5"),
        (
            "name: x\ndata: {store: s, target: [a]}\ntargets: {TES: {}}\n",
            "e.yaml, line 2: data.target: must be text",
        ),
        (MINIMAL + "3: x\n", "e.yaml, line 5: unknown key '3': known: name, data, "),
        (
            MINIMAL + "train: {device: gpu}\n",
            "e.yaml, line 5: train.device is 'gpu', not one of auto, cpu, cuda; did you mean 'cpu'?",
        ),
        (
            MINIMAL + "  align: short\n",
            "e.yaml, line 5: data.align is 'short', not one of shortest, none, time; did you mean 'shortest'?",
        ),
        (MINIMAL + "targets: {PCS: {}}\n", "e.yaml: no target 'TES' under targets: known: PCS"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_what_is_needed(file, text, message):
    assert mistake(file(text)).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "train:\n  epochs: 5\n  epochs: 6\n", "e.yaml, line 7: 'train.epochs' is already given on line 6"),
        (MINIMAL + "name: y\n", "e.yaml, line 5: 'name' is already given on line 1"),
        (MINIMAL + "train: &t {epochs: 5}\nselect: *t\n", "e.yaml, line 6: not valid YAML: aliases are not accepted"),
        (
            MINIMAL + "output: !!python/object/apply:os.system ['touch hacked']\n",
            "e.yaml, line 5: not valid YAML: could not determine a constructor for the tag",
        ),
        ("name: x: y\n", "e.yaml, line 1: not valid YAML: mapping values are not allowed here"),
        ("name: 'x\n", "e.yaml, line 2: not valid YAML: found unexpected end of stream"),
        (b"name: \xff\n", "e.yaml: not valid YAML: it is not text in UTF-8"),
        (b"name: \x00\n", "e.yaml: not valid YAML: unacceptable character #x0000"),
        ("name: " + "[" * 5000, "e.yaml, line 1: nested more than 50 deep"),
        ("- name\n", "e.yaml: an experiment file is a mapping of keys (name, data, model, missing, train, "),
        ("", "e.yaml: an experiment file is a mapping of keys (name, data, model, missing, train, "),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_is_no_plain_yaml_mapping_is_refused(file, tmp_path, text, message):
    assert mistake(file(text)).startswith(message)
    assert not (tmp_path / "hacked").exists()


BILLION = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{b}, *{b}]\n" for b, c in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + BILLION, "e.yaml, line 6: not valid YAML: aliases are not accepted"),
        (MINIMAL + "train: {<<: {epochs: 5}}\n", "e.yaml, line 5: merge keys (<<) are not accepted"),
        (MINIMAL + "<<: [{name: y}, {name: z}]\n", "e.yaml, line 5: merge keys (<<) are not accepted"),
        (MINIMAL + f"model: {{a: {'[' * 60}{']' * 60}}}\n", "e.yaml, line 5: nested more than 50 deep"),
        (MINIMAL + f"model: {'{a: ' * 60}1{'}' * 60}\n", "e.yaml, line 5: nested more than 50 deep"),
        (MINIMAL + f"train: {{seed: 0x{'f' * 100_000}}}\n", "e.yaml, line 5: train.seed: must be a whole number, got"),
        (MINIMAL + f"train: {{seed: {'9' * 5000}}}\n", "e.yaml, line 5: a number of 5000 digits"),
        (MINIMAL + "model: {alpha: .nan}\n", "e.yaml, line 5: model: numbers must be finite"),
        (
            MINIMAL + "missing: {train: {rates: {visual: .inf}}}\n",
            "e.yaml, line 5: missing.train: numbers must be finite",
        ),
        (MINIMAL + "1: x\n", "e.yaml, line 5: unknown key '1'"),
        (MINIMAL + "? [a, b]\n: x\n", "e.yaml, line 5: not valid YAML: found unhashable key"),
        (MINIMAL + "---\nname: y\n", "e.yaml, line 5: not valid YAML: but found another document"),
        (MINIMAL + '"\\e[31mred": 1\n', r"e.yaml, line 5: unknown key '\x1b[31mred'"),
        (MINIMAL + '"a\\nb": 1\n', r"e.yaml, line 5: unknown key 'a\nb'"),
        (MINIMAL + f"train: {'x' * 100_000}\n", "e.yaml, line 5: train: a mapping of keys is needed"),
        (MINIMAL.encode("utf-16"), "e.yaml: not valid YAML: it is not text in UTF-8"),
        (bytes(range(128, 256)), "e.yaml: not valid YAML: it is not text in UTF-8"),
        (MINIMAL + "#" * 2**20, "e.yaml has 1048618 bytes; a YAML file has 1048576 at most"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_would_do_harm_is_refused(file, text, message):
    said = mistake(file(text))
    assert said.startswith(message)
    assert len(said) < 600


def test_a_mark_of_the_byte_order_does_no_harm(file):
    assert load_experiment(file("\ufeff" + MINIMAL)).name == "x"


def test_a_folder_in_the_place_of_a_file_is_named(file, tmp_path):
    (tmp_path / "e.yaml").mkdir()
    assert mistake("e.yaml") == "e.yaml is a folder, not a file"


def test_a_placeholder_may_have_a_width_but_not_one_that_fills_memory(file):
    name = file(MINIMAL)
    assert load_experiment(name, ["name='{target}-{seed:03d}'"]).title == "TES-000"
    for wrong in ("{target:>9999999999}", "{seed:9999999999d}", "{model!r}", "{seed:{seed}}"):
        assert "has a placeholder that is not one of" in mistake(name, [f"name='{wrong}'"])


def test_a_missing_file_is_named_with_the_nearest_one(file):
    file(MINIMAL, "fisv.yaml")
    assert mistake("fsiv.yaml") == "there is no file fsiv.yaml; did you mean 'fisv.yaml'?"
    assert mistake("nowhere/e.yaml").startswith("there is no file nowhere/e.yaml; ")


@pytest.mark.parametrize(
    ("asked", "there", "hint"),
    [
        (
            "experiment/fisv.yaml",
            ["experiments/fisv.yaml", "experiments/rg.yaml"],
            "did you mean 'experiments/fisv.yaml'?",
        ),
        ("fisv.yaml", ["experiments/fisv.yaml", "own.yaml"], "did you mean 'experiments/fisv.yaml'?"),
        ("experiments/fisv.yml", ["experiments/fisv.yaml"], "did you mean 'experiments/fisv.yaml'?"),
        ("experiments/x.yaml", ["experiments/fisv.yaml"], "did you mean 'experiments/fisv.yaml'?"),
        ("x.yaml", [], "there is no YAML file nearby"),
        ("x.yaml", [f"long-name-{i}.yaml" for i in range(20)], "there are 20 others nearby"),
    ],
)
def test_a_missing_file_is_looked_for_nearby(file, asked, there, hint):
    for name in there:
        file(MINIMAL, name)
    assert mistake(asked) == f"there is no file {asked}; {hint}"


def test_a_sweep_file_is_sent_to_its_command(file):
    said = mistake(file("name: g\nexperiments: [e.yaml]\n", "grid.yaml"))
    assert said == "grid.yaml is a sweep file; run it with: aqa sweep grid.yaml"


def leaves(section=Experiment, prefix=""):
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from (f"{prefix}{name}", *leaves(field.annotation, f"{prefix}{name}."))
        else:
            yield f"{prefix}{name}"


WRONG = [
    "[]",
    "[[]]",
    "{}",
    "{a: {}}",
    "x",
    "'1.5'",
    "-7",
    "1.5",
    "9e99",
    ".nan",
    ".inf",
    "true",
    "~",
    "2024-01-01",
    "{1: 2}",
]


@pytest.mark.parametrize("key", list(leaves()))
def test_no_message_has_words_of_the_library_that_checks(file, key):
    name = file(MINIMAL)
    for value in WRONG:
        try:
            load_experiment(name, [f"{key}={value}"])
        except AqaError as error:
            message = str(error)
            assert "\n" not in message
            for word in (
                "Input",
                "input should",
                "valid integer",
                "dictionary",
                "string",
                "type=",
                "another kind",
                "[",
            ):
                assert word not in message.replace(value, "").partition("got ")[0], message


# Mistakes on the command line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed", "'train.seed' is not an override; write key.key=value, such as train.seed=1"),
        ("=1", "'=1' is not an override; write key.key=value, such as train.seed=1"),
        ("train.seed=[1", "'train.seed=[1': the value is not valid YAML"),
        ("model.depth=!!python/name:os.system", "'model.depth=!!python/name:os.system': the value is not valid YAML"),
        ("train.seed=1" + "0" * 50, "'train.seed=1"),
        ("train.sed=1", "override 'train.sed=1': unknown key 'train.sed': did you mean 'seed'?"),
        ("tran.seed=1", "override 'tran.seed=1': unknown key 'tran': did you mean 'train'?"),
        ("train.seed=x", "override 'train.seed=x': train.seed: must be a whole number"),
        ("data.align=no", "override 'data.align=no': data.align is 'no', not one of shortest, none, time; "),
        ("train=5", "override 'train=5': train: a mapping of keys is needed (epochs, "),
        ("data.target=TSE", "e.yaml: no target 'TSE' under targets: did you mean 'TES'?"),
    ],
)
def test_a_wrong_override_is_named_and_the_file_is_not_blamed(file, override, message):
    assert mistake(file(TARGETS), [override]).startswith(message)


def test_keys_that_came_later_leave_the_names_of_earlier_runs():
    content = {"name": "s", "data": {"store": "tiny.h5", "target": "score"}}
    named = load_experiment(content, ["train.precision=float32", "train.compile=false"])
    assert named.unique_name(None) == load_experiment(content).unique_name(None)
    assert (
        named.model_copy(update={"data": DataConfig(store="tiny.h5", target="score")}).unique_name(None)
        == "tiny-score-mcmoe-seed0-d176fc52"
    )
    for override in ("train.precision=bf16", "train.compile=true", "evaluate.metrics=[mae]"):
        assert load_experiment(content, [override]).unique_name(None) != named.unique_name(None)
    defaults = {
        "train": TrainConfig(),
        "data": DataConfig(store="tiny.h5", target="score"),
        "evaluate": EvaluateConfig(),
    }
    for key, before in DEFAULTS_OF_OLDER_RUNS.items():
        section, name = key.split(".")
        assert getattr(defaults[section], name) == before


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("{optimizer: sdg}", "train.optimizer is 'sdg', not one of adam, adamw, sgd; did you mean 'sgd'"),
        ("{schedule: cosin}", "train.schedule is 'cosin', not one of cosine, step, constant; did you mean 'cosine'"),
        ("{schedule: step}", "train: schedule step needs `steps`: after which epochs, or every so many"),
        ("{steps: 5}", "train: steps goes with schedule step only"),
        ("{schedule: step, steps: [3, 0]}", "train.steps: a whole number of epochs is needed, or a list of them, 1"),
        ("{momentum: 0.8}", "train: momentum goes with optimizer sgd only"),
        ("{schedule: constant, final_learning_rate: 0.1}", "train: final_learning_rate goes with schedule cosine only"),
        ("{optimizer: sgd, nesterov: true, momentum: 0}", "train: nesterov needs a momentum"),
        ("{parts: {head: {learning_rate: 1}}}", "unknown key 'train.parts.head.learning_rate': did you mean"),
        (
            "{parts: {mixed.head: {learning_rate_factor: 0}}}",
            "train.parts.mixed.head.learning_rate_factor: must be more",
        ),
        ("{stages: [{}, {}]}", "train: every stage but the last needs `epochs`"),
        ("{stages: [{epochs: 2}]}", "train: the last stage has the epochs that are left; leave out its `epochs`"),
        (
            "{epochs: 5, stages: [{epochs: 5}, {}]}",
            "train: stages of [5] epochs and a last one do not fit into 5 epochs",
        ),
        ("{stages: [{epochs: 2, batch_size: 3}, {}]}", "unknown key 'train.stages.0.batch_size'"),
        ("{stages: [{epochs: 2, momentum: 0.8}, {}]}", "train: momentum goes with optimizer sgd only"),
    ],
)
def test_a_mistake_in_how_to_train_is_one_line(file, train, message):
    assert message in mistake(file(f"{MINIMAL}train: {train}\n"))


def test_stages_and_parts_are_kept_and_a_key_may_be_of_one_stage():
    content = {"name": "s", "data": {"store": "tiny.h5", "target": "score"}}
    stages = [{"epochs": 0.5, "optimizer": "sgd", "momentum": 0.8}, {"schedule": "step", "steps": 5}]
    parts = {"mixed.head": {"learning_rate_factor": 0.1}}
    loaded = load_experiment({**content, "train": {"epochs": 10, "stages": stages, "parts": parts}})
    again = load_experiment(loaded.resolved())
    assert again.train == loaded.train
    first, second = again.train.by_stage()
    assert (first.epochs, first.optimizer, first.momentum, first.schedule) == (5, "sgd", 0.8, "cosine")
    assert (second.epochs, second.optimizer, second.steps) == (5, "adam", 5)
    assert again.train.parts["mixed.head"].learning_rate_factor == 0.1


@pytest.mark.parametrize("name", ["../../outside", "/abs", "..", ".", "''", "' '", "'~'", "'{target}/../..'", "a\\b"])
def test_a_name_that_is_a_path_or_nothing_is_refused(file, name):
    with pytest.raises(AqaError, match=r"^name: .*(is a path; a name has no '/'|is empty)"):
        load_experiment(file(f"name: {name}\ndata: {{store: x.h5, target: TES}}\n"))


def test_a_target_is_escaped_in_the_names_of_runs(file):
    text = "name: '{target}'\ndata: {store: x.h5, target: TES}\n"
    odd = load_experiment({"name": "{target}", "data": {"store": "x.h5", "target": "../a/b: 50%"}})
    assert odd.title == "%2E.%2Fa%2Fb%3A 50%25"
    assert odd.unique_name(None).startswith("x-%2E.%2Fa%2Fb%3A 50%25-mcmoe-seed0-")
    assert load_experiment(file(text)).title == "TES"
    long = [load_experiment({"name": "n", "data": {"store": "x.h5", "target": "t" * 240 + end}}) for end in "ab"]
    assert len({experiment.unique_name(None) for experiment in long}) == 2
    assert all(len(experiment.unique_name("f" * 64)) < 120 for experiment in long)
