"""Whatever an experiment file may ask for, nested as it likes: what every pattern keeps."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.features.batches import Features, scoring_visibility, training_batches
from aqa.features.streaming import StreamedFeatures
from aqa.missing import Draws, parse_pattern, sample_keys
from aqa.modalities import subsets
from aqa.store.store import FeatureStore

NAMES = ["visual", "audio", "flow", "pose"]
CLIPS = 6
IDS = [f"video {i}" for i in range(12)]
STRICT = {"complete"} | {name for count in range(1, 5) for name in subsets(NAMES[:count])}  # these may leave nothing


@st.composite
def modalities(draw):
    return NAMES[: draw(st.integers(1, len(NAMES)))]


def some_of(names):
    return st.lists(st.sampled_from(names), min_size=1, unique=True)


def specs(names):
    """Every kind of pattern over the modalities."""
    named = list(subsets(names))
    share = st.floats(0, 1)
    plain = [
        st.sampled_from(["none", "all_subsets", *named]),
        st.fixed_dictionaries({"only": some_of(named)}),
        st.fixed_dictionaries({"rates": share | st.dictionaries(st.sampled_from(names), share)}),
        per(st.just(True)),
    ]
    damage = [
        st.builds(lambda x, m: {"gaps": {"fraction": x, "affected": m}}, st.floats(0, 0.99), some_of(names)),
        st.builds(lambda x, m: {"noise": {"std": x, "affected": m}}, st.floats(0, 9), some_of(names)),
        st.builds(
            lambda x, r, m: {"shift": {"clips": x, "random": r, "affected": m}},
            st.integers(-9, 9),
            st.booleans(),
            some_of(names),
        ),
    ]
    if len(names) > 1:
        plain += [st.just("random_subset"), per(st.booleans())]
    made = [
        lambda inner: st.fixed_dictionaries({"fixed": inner}),
        lambda inner: st.fixed_dictionaries({"combine": st.lists(inner, min_size=1, max_size=3)}),
    ]
    return st.recursive(
        st.one_of(*plain, *damage), lambda inner: st.one_of(*(make(inner) for make in made)), max_leaves=4
    )


def per(complete):
    return st.builds(
        lambda how, whole: {"random_subset": {"per": how, "include_complete": whole}},
        st.sampled_from(["batch", "sample"]),
        complete,
    )


def mentions(spec, words):
    """Whether a pattern of one of these names is somewhere in a spec."""
    if isinstance(spec, dict):
        return any(
            key in words or (key in ("fixed", "combine") and mentions(value, words)) for key, value in spec.items()
        )
    if isinstance(spec, list):
        return any(mentions(one, words) for one in spec)
    return spec in words


def draws_by_batch(spec):
    if isinstance(spec, dict):
        (kind, value), *_ = spec.items()
        if kind == "fixed":
            return False  # a draw of its own, once and for all
        if kind == "random_subset":
            return value["per"] == "batch"
        return kind == "only" or (kind == "combine" and any(map(draws_by_batch, value)))
    return spec in ("random_subset", "all_subsets")


@st.composite
def situations(draw):
    """Names, a spec over them, and what each of some videos has of them (n, M)."""
    names = draw(modalities())
    rows = draw(st.integers(1, len(IDS)))
    cells = st.lists(st.booleans(), min_size=len(names), max_size=len(names))
    available = np.array(draw(st.lists(cells, min_size=rows, max_size=rows)), dtype=bool)
    return names, draw(specs(names)), available, draw(st.integers(0, 2**40)), draw(st.integers(0, 999))


def drawn(rows, seed, epoch, size=4):
    return Draws(seed, epoch, sample_keys(IDS[:rows]), np.arange(rows) // size)


def mask(made, available, draws):
    return made.visible(made.remaining(available, draws), draws)


@settings(max_examples=60)
@given(situations())
def test_visible_is_among_what_is_available_and_one_stays(situation):
    names, spec, available, seed, epoch = situation
    made, draws, before = parse_pattern(spec, names, "t"), drawn(len(available), seed, epoch), available.copy()
    remaining = made.remaining(available, draws)
    visible = made.visible(remaining, draws)
    assert not (remaining & ~available).any()
    assert not (visible & ~remaining).any()
    np.testing.assert_array_equal(available, before)
    if not mentions(spec, STRICT):
        np.testing.assert_array_equal(visible.any(axis=1), available.any(axis=1))


@settings(max_examples=60)
@given(situations(), st.data())
def test_a_mask_belongs_to_the_video(situation, data):
    """Not to its place, nor to the other videos, nor (where nothing is drawn a batch) to the batch's size."""
    names, spec, available, seed, epoch = situation
    made, draws = parse_pattern(spec, names, "t"), drawn(len(available), seed, epoch)
    whole = mask(made, available, draws)
    rows = np.array(data.draw(st.permutations(range(len(available)))))[: data.draw(st.integers(1, len(available)))]
    np.testing.assert_array_equal(mask(made, available[rows], draws.at(rows)), whole[rows])
    if not draws_by_batch(spec):
        for size in (1, 3, 100):
            np.testing.assert_array_equal(mask(made, available, drawn(len(available), seed, epoch, size)), whole)


@settings(max_examples=60)
@given(situations(), st.data())
def test_damage_changes_what_it_names_and_nothing_else(situation, data):
    names, spec, available, seed, epoch = situation
    made, draws, rows = parse_pattern(spec, names, "t"), drawn(len(available), seed, epoch), len(available)
    generator = torch.Generator().manual_seed(seed % 1000)
    lengths, streams = {}, {}
    for i, m in enumerate(names):
        length = torch.tensor(data.draw(st.lists(st.integers(1, CLIPS), min_size=rows, max_size=rows)))
        lengths[m] = length * torch.from_numpy(available[:, i])
        real = (torch.arange(CLIPS) < lengths[m][:, None]).unsqueeze(-1)
        streams[m] = torch.randn(rows, CLIPS, 2, generator=generator).masked_fill(~real, 0.0)
    before = {m: x.clone() for m, x in streams.items()}
    damaged = made.damage(streams, lengths, draws)
    affected = affected_by(spec, names)
    assert list(damaged) == names
    for m in names:
        assert torch.equal(streams[m], before[m])
        assert (damaged[m].shape, damaged[m].dtype) == (before[m].shape, before[m].dtype)
        assert damaged[m].isfinite().all()
        assert m in affected or torch.equal(damaged[m], before[m])
        padding = torch.arange(CLIPS) >= lengths[m][:, None]
        assert not damaged[m][padding].any()
    if not made.damages:
        assert not affected


def affected_by(spec, names):
    """The modalities that a spec damages; `fixed` takes only the hiding of its pattern."""
    if isinstance(spec, dict):
        (kind, value), *_ = spec.items()
        if kind in ("gaps", "noise", "shift"):
            return set(value.get("affected", names))
        if kind == "combine":
            return set().union(*(affected_by(one, names) for one in value))
    return set()


def test_masks_are_the_same_in_memory_and_in_blocks_and_whichever_modalities_are_loaded(tiny_store):
    with FeatureStore(tiny_store()) as store:
        whole, lazy = Features(store), StreamedFeatures(store, capacity=700)
        rows = np.arange(8)
        for spec in ({"rates": 0.5}, {"random_subset": {"per": "sample"}}, {"fixed": "random_subset"}):
            made = parse_pattern(spec, whole.modalities, "t")
            expected = scoring_visibility(whole, rows, made, seed=3)
            np.testing.assert_array_equal(scoring_visibility(lazy, rows, made, seed=3), expected)
            if spec == {"fixed": "random_subset"}:
                continue
            for features, size in ((whole, 3), (whole, 8), (lazy, 3), (lazy, 1)):
                found = {}
                options = {"clips": 4, "size": size, "seed": 3, "epoch": 5}
                for batch in training_batches(features, rows, features.available, made, **options):
                    found |= dict(zip(batch.rows.tolist(), batch.visible.tolist(), strict=True))
                if (features, size) == (whole, 3):
                    first = found
                assert found == first
        # A pattern that is drawn modality by modality does not know of those that are not there to be hidden.
        two = Features(store, modalities=["audio", "flow"])
        shift = parse_pattern({"shift": {"clips": 2, "random": True}}, whole.modalities, "t")
        draws = Draws.once(3, whole.keys)
        both = [shift.damage(*features.window(rows, 4), draws) for features in (whole, two)]
        assert all(torch.equal(both[0][m], both[1][m]) for m in ("audio", "flow"))
