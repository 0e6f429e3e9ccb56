"""Tables of distances at the end of `pytest tests/golden`."""

from tests.golden.vectors import DELIBERATE, DISTANCES, GRADIENT, LOSS, VALUE

FILES = {"limssr": "limssr_tiny.npz", "pamfn": "pamfn_feats1.npz"}  # of the others: METHOD.npz


def row_of(name):
    """A method and its file."""
    return name if ":" in name else f"{name}: {FILES.get(name, f'{name}.npz')}"


def pytest_terminal_summary(terminalreporter):
    if DISTANCES:
        kinds = {"values": f"values ({VALUE:g})", "losses": f"losses ({LOSS:g})"}
        kinds["gradients"] = f"gradients ({GRADIENT:g})"
        terminalreporter.section("distances from the authors' own numbers (tolerance; PAMFN's gradients 0.001)")
        terminalreporter.write_line("".join(f"{cell:<28}" for cell in ("", *kinds.values())))
        for name, found in sorted(DISTANCES.items()):
            cells = [f"{found[kind]:.1e}" if kind in found else "" for kind in kinds]
            terminalreporter.write_line("".join(f"{cell:<28}" for cell in (row_of(name), *cells)))
    if DELIBERATE:
        terminalreporter.section("what is different on purpose, and by how much on the same random weights")
        for (method, what), difference in sorted(DELIBERATE.items()):
            terminalreporter.write_line(f"{method:<12}{difference:<10.2g}{what}")
