"""Reading untrusted checkpoint files, as their authors and as trainers save them."""

import pickle
import warnings

import pytest
import torch

from aqa.errors import AqaError
from aqa.models import build
from aqa.models.mcmoe import MCMoE
from aqa.models.published import METHODS, load_published, load_published_mcmoe
from aqa.models.published.names import Names

MODALITIES = METHODS["mcmoe"].streams
NAMES = Names(METHODS["mcmoe"].names(MODALITIES))


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("write", [lambda o, p: torch.save(o, p), lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, write):
    trace, path = tmp_path / "was_run", tmp_path / "best.pkl"
    write({"prototype.weight": Exploit(str(trace))}, path)
    with pytest.raises(AqaError, match="refused"):
        load_published_mcmoe(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04broken"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "best.pkl"
    path.write_bytes(content)
    with pytest.raises(AqaError) as error:
        load_published_mcmoe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_is_no_mapping_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(AqaError, match="holds a list"):
        load_published_mcmoe(tmp_path / "list.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AqaError, match=r"no checkpoint at .*best\.pkl"):
        load_published_mcmoe(tmp_path / "best.pkl")


WIDTHS = {"visual": 6, "audio": 4, "flow": 5}


@pytest.fixture(scope="module")
def state():
    """The weights of a small MCMoE by their published names."""
    torch.manual_seed(0)
    model = MCMoE(WIDTHS, hidden_dim=8, n_encoder=1, n_decoder=1)
    return {NAMES.theirs(name): value for name, value in model.state_dict().items()}


def test_names_there_and_here(state):
    assert NAMES.ours("experts.v.0.weight") == "experts.visual.conv.weight"
    assert NAMES.ours("prototype.weight") == "grades.prototypes"
    assert NAMES.ours("prototypes") is None
    assert all(NAMES.ours(name) is not None for name in state)


def same(model, state):
    return all(torch.equal(value, state[NAMES.theirs(name)]) for name, value in model.state_dict().items())


def prefixed(prefix):
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


BESIDE = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
WRAPPED = {
    "state_dict": (lambda s: {"state_dict": s, **BESIDE}, "'state_dict' are read, not 'epoch' and 'optimizer' beside"),
    "model": (lambda s: {"epoch": 3, "model": s}, "the weights under 'model' are read, not 'epoch' beside them"),
    "model_state_dict": (lambda s: {"model_state_dict": s}, "the weights under 'model_state_dict' are read$"),
    "net": (lambda s: {"net": s, "acc": 0.5}, "the weights under 'net' are read"),
    "compiled": (prefixed("_orig_mod."), "names are read without '_orig_mod.'"),
    "parallel": (prefixed("module."), "names are read without 'module.'"),
    "both": (prefixed("module._orig_mod."), r"names are read without 'module\._orig_mod\.'"),
    "lightning": (lambda s: {"state_dict": prefixed("model.")(s), **BESIDE}, "beside them; names are read without 'mo"),
    "net.": (lambda s: {"model": prefixed("net.")(s)}, "names are read without 'net.'"),
}


@pytest.mark.parametrize(("wrap", "said"), WRAPPED.values(), ids=WRAPPED)
def test_weights_as_trainers_save_them_are_unwrapped_and_it_is_said_once(state, tmp_path, wrap, said):
    torch.save(wrap(state), tmp_path / "best.pt")
    for checkpoint in (tmp_path / "best.pt", wrap(state)):
        with pytest.warns(UserWarning, match=said) as warned:
            model = load_published_mcmoe(checkpoint)
        assert len(warned) == 1
        assert same(model, state)


def test_bare_weights_are_read_without_a_word(state):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load_published_mcmoe(state), state)
        assert same(load_published_mcmoe({f"state.{name}": value.numpy() for name, value in state.items()}), state)


def changed(**changes):
    return lambda state: {**state, **{name.replace("__", "."): value for name, value in changes.items()}}


REFUSED = {
    "two sets": (lambda s: {"model": s, "net": s}, "holds weights under 'model' and 'net'; give one of them"),
    "ours": (
        lambda s: {"a": 1, "b": 2, "c": 3, "d": 4},
        "'a', 'b', 'c' and 1 more are not parameters of the published",
    ),
    "too many": (changed(head__weight=torch.ones(3)), "'head.weight' is not a parameter of the published MCMoE"),
    "no layer": (changed(fusion__x=torch.ones(3)), "'fusion.x' is one too many"),
    "text": (changed(regressor__weight="text"), "'regressor.weight' is 'text', not numbers"),
    "shape": (changed(regressor__weight=torch.ones(3, 3)), r"'regressor.weight' has shape \(3, 3\), expected"),
    "flat": (changed(prototype__weight=torch.ones(3)), r"'prototype.weight' has shape \(3,\), not two dimensions"),
    "NaN": (
        changed(regressor__weight=torch.full((1, 8), torch.nan)),
        "'regressor.weight' holds NaN or infinite weights",
    ),
    "infinite": (
        changed(regressor__bias=torch.full((1,), torch.inf)),
        "'regressor.bias' holds NaN or infinite weights",
    ),
    "empty": (lambda s: {}, r"it lacks 'in_proj\.v\.0\.weight'"),
    "half": (lambda s: {k: v for k, v in s.items() if "router" not in k}, r"it lacks 'router_mix\.fc1\.weight'"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_published_checkpoint_is_said_in_words(state, change, message):
    with pytest.raises(AqaError, match=message) as error:
        load_published_mcmoe(change(state))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototype_position": "rows"}, "option 'prototype_position': must be 'query' or 'batch_row'"),
        ({"generator_queries": "temporl"}, "option 'generator_queries': must be 'shared' or 'temporal'"),
        ({"mask_padding": "perhaps"}, "option 'mask_padding'"),
        ({"alpha": "x"}, "option 'alpha'"),
        ({"alpha": float("nan")}, "option 'alpha'"),
        ({"n_head": 0}, "option 'n_head'"),
        ({"n_head": 3}, "hidden_dim 8 must be a multiple of 4 and of n_head 3"),
        ({"n_heads": 2}, "has no option 'n_heads': did you mean 'n_head'"),
        ({"hidden_dim": 8}, "option 'hidden_dim': it is read from the weights"),
        ({"widths": WIDTHS}, "has no option 'widths'"),
    ],
)
def test_options_are_checked_as_build_checks_them(state, options, message):
    with pytest.raises(AqaError, match=f"^model 'mcmoe'.*{message}"):
        load_published_mcmoe(state, **options)


def test_options_reach_the_model(state):
    model = load_published_mcmoe(state, n_head=4, mask_padding=True, alpha=2)
    assert (model.mask_padding, model.alpha, model.numbers_rows) == (True, 2.0, True)
    assert tuple(model.widths.items()) == tuple((name, WIDTHS[name]) for name in MODALITIES.values())


@pytest.mark.parametrize("widths", [{}, [], {"v": 0}, {"v": -1}, {"v": 4.5}, {"v": "4"}, {"v": True}, {"v": None}])
def test_widths_that_are_none_are_one_line(widths):
    with pytest.raises(AqaError, match=r"^widths.*(one modality or more|whole number of channels, 1 or more)"):
        build("ridge", widths=widths)


def test_a_method_without_published_checkpoints_is_named():
    with pytest.raises(AqaError, match=r"no published checkpoints are known of 'gdtl': did you mean 'gdlt'"):
        load_published("gdtl", {})


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({"x": "visual"}, "modalities: MCMoE has no modality 'x'"),
        ({"v": "audio"}, "does not give each modality a name of its own"),
        ({"v": ""}, "does not give each modality a name of its own"),
    ],
)
def test_names_of_modalities_are_checked(state, modalities, message):
    with pytest.raises(AqaError, match=message):
        load_published("mcmoe", state, modalities=modalities)


def test_modalities_may_have_any_names(state):
    model = load_published("mcmoe", state, modalities={"v": "rgb.v2", "a": "forward"})
    assert model.modalities == ("rgb.v2", "forward", "flow")
    assert torch.equal(model.projections["rgb.v2"][0].weight, state["in_proj.v.0.weight"])
