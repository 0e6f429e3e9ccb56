"""A table of distances at the end of `pytest tests/golden`."""

from tests.golden.vectors import DISTANCES, GRADIENT, LOSS, VALUE


def pytest_terminal_summary(terminalreporter):
    if not DISTANCES:
        return
    kinds = {"values": f"values ({VALUE:g})", "losses": f"losses ({LOSS:g})", "gradients": f"gradients ({GRADIENT:g})"}
    terminalreporter.section("distances from the authors' own numbers (tolerance; PAMFN's gradients 0.001)")
    terminalreporter.write_line("".join(f"{cell:20}" for cell in ("", *kinds.values())))
    for method, found in sorted(DISTANCES.items()):
        cells = [f"{found[kind]:.1e}" if kind in found else "" for kind in kinds]
        terminalreporter.write_line("".join(f"{cell:20}" for cell in (method, *cells)))
