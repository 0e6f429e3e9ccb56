"""The table that a run prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aqa.evaluation.intervals import fewest as fewest_videos
from aqa.evaluation.measures import METRICS
from aqa.runs.selection import UNKNOWN

UNDEFINED, TOO_FEW = "undefined", "n too small"
FEW_GROUPS = 10  # for a bootstrap that draws groups
MOST_NAMED = 7  # patterns of an average that are listed one by one


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; None is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds in words, to two digits."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} seconds"


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"  # 100, not 1e+02


def interval_text(low: float | None, high: float | None, why_none: str | None = None) -> str:
    """A confidence interval for people. why_none: the reason that metrics.json gives where there is none."""
    if low is None or high is None:
        return f"[{TOO_FEW if (why_none or '').startswith('too few') else UNDEFINED}]"
    return f"[{low:.3f}, {high:.3f}]"


def interval_of(scores: Mapping[str, Any]) -> str:
    """The interval of a pattern or of the average, as in metrics.json."""
    return interval_text(scores["srcc_low"], scores["srcc_high"], scores.get("why_no_interval"))


def selection_text(selection: Mapping[str, Any]) -> str:
    """How the weights were chosen, with the published protocol called by its name."""
    if selection["split"] == UNKNOWN:
        return "IMPORTED, SELECTION UNKNOWN"
    if selection.get("inner_folds") is not None:
        return f"members weighted by out-of-fold scores of training videos, {selection['inner_folds']} inner folds"
    metric = {"srcc": "SRCC", "mse": "MSE"}[selection["metric"]]
    if selection.get("value", 0.0) is None and selection["epoch"] is not None:
        last = f"the last epoch, {selection['epoch']} of {selection['epochs']}"
        return f"{last}: {metric} ({selection['pattern']}) on {selection['split']} was undefined in every epoch"
    split = "SELECTED ON TEST" if selection["split"] == "test" else f"selected on {selection['split']}"
    in_folds = " in each fold" if selection["epoch"] is None else ""
    if selection.get("seeds") is not None:
        return f"the mean of {selection['seeds']} seeds, each {split}{in_folds} by {metric} ({selection['pattern']})"
    if selection["epoch"] is None:
        return f"epochs {split} in each fold by {metric} ({selection['pattern']})"
    return f"{split}: epoch {selection['epoch']} of {selection['epochs']}, best {metric} ({selection['pattern']})"


def result_table(metrics: Mapping[str, Any]) -> str:
    """The metrics of a run or an evaluation (as read back from metrics.json): a line per pattern, then the average."""
    known = any("ceiling" in scores for scores in metrics["patterns"].values())
    folds = metrics.get("folds")
    over_folds = ["mean of folds", "95 % interval"] if folds else []
    header = ["pattern", "SRCC", "95 % interval", *over_folds, "MSE", "R-l2 %", "n", *(["ceiling"] if known else [])]
    rows = []
    for name, s in metrics["patterns"].items():
        over_folds = [number(s["srcc_folds"]), folds_interval_of(s)] if folds else []
        row = [name, number(s["srcc"]), interval_of(s), *over_folds, number(s["mse"]), number(s["rl2"])]
        rows.append([*row, str(s["n"]), *([number(s.get("ceiling")) if "ceiling" in s else ""] if known else [])])
    lines = align([header, *rows])
    average = metrics["average_incomplete"]
    if average["patterns"]:
        lines += ["", average_text(average)]
    lines += folds_lines(metrics) if folds else []
    lines += further_lines(metrics)
    lines += interval_lines(metrics)
    undefined = [f"{name} ({s['why_undefined']})" for name, s in metrics["patterns"].items() if "why_undefined" in s]
    if undefined:
        lines.append(f"SRCC undefined: {', '.join(undefined)}")
    lines += no_interval_lines(metrics)
    unscored = {name: s["unscored"] for name, s in metrics["patterns"].items() if s["unscored"]}
    if unscored:
        listed = ", ".join(f"{name} {n}" for name, n in unscored.items())
        lines.append(f"not scored, for want of every modality of the pattern: {listed}")
    lines += [f"note: {note}" for note in metrics.get("notes", ())]
    by_folds = f", {folds['description']}" if folds else ""
    lines += imported_lines(metrics)
    seed = "" if metrics.get("imported") else f", seed {metrics['seed']}"
    title = f"{metrics['model']} on {metrics['target']}{seed}{by_folds}; "
    title += selection_text(metrics["selection"])
    if learned := metrics.get("learned_from"):
        title += f"; LEARNED FROM {' AND '.join(learned).upper()}"
    if others := metrics.get("learned_also"):
        title += f"; learned from {others} other label{'s' * (others != 1)} too"
    if metrics.get("split", "test") != "test":
        title += f"; SCORED ON {metrics['split'].upper()}"
    return "\n".join([title, *lines])


def imported_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What is not known of a checkpoint that was imported, and what follows for the numbers."""
    about = metrics.get("imported")
    if not about:
        return []
    lines = [
        f"note: weights from {about['file']}, as the authors of {about['method']} publish them; which videos selected "
        "the epoch is not known: if those of the test split, the scores are too good"
    ]
    if "why_none" not in metrics.get("intervals", {"why_none": ""}):
        lines.append(
            "note: if the weights were learned from the videos that intervals are made from, these are too narrow"
        )
    return lines


def folds_interval_of(scores: Mapping[str, Any]) -> str:
    """The interval of the mean over folds."""
    return interval_text(scores["srcc_folds_low"], scores["srcc_folds_high"])


def folds_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What must be said under the table of a cross-validation."""
    folds, average = metrics["folds"], metrics["average_incomplete"]
    lines = []
    if average["patterns"] and average["srcc_folds"] is not None:
        lines.append(f"their mean of folds: {number(average['srcc_folds'])} {folds_interval_of(average)}")
    drawn = "videos" if folds["group"] is None else f"the {folds['groups']} groups ({folds['group']})"
    lines += ["", f"SRCC of all out-of-fold scores together, and its Fisher-z mean over folds; intervals draw {drawn}"]
    if folds["groups"] is not None and folds["groups"] < FEW_GROUPS:
        lines.append(f"{folds['groups']} groups are few for a bootstrap: the intervals are too narrow")
    undefined = {name: s for name, s in metrics["patterns"].items() if "why_no_folds" in s}
    for why in dict.fromkeys(s["why_no_folds"] for s in undefined.values()):
        known = (f"{n} {number(s['srcc_folds_plain'])}" for n, s in undefined.items() if s["why_no_folds"] == why)
        lines.append(f"no mean of folds through Fisher's z: {why}; the plain mean: {', '.join(known)}")
    return lines


def further_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The area under missing rates, and the table of further measures, a column each, where there are any."""
    lines = []
    if area := metrics.get("area_under_rates"):
        rates = ", ".join(f"{rate:g}" for rate in area["rates"])
        lines.append(
            f"area under SRCC against missing rate, over its width (trapezoids at {rates}): "
            f"{number(area['srcc'])} {interval_of(area)}"
        )
    found = {name: s["measures"] for name, s in metrics["patterns"].items() if "measures" in s}
    if not found:
        return lines
    names = list(dict.fromkeys(m for measures in found.values() for m in measures))
    header = ["pattern", *(METRICS.get(m).about["title"] for m in names)]
    rows = [[pattern, *(measure_text(measures[m]) for m in names)] for pattern, measures in found.items()]
    reasons = {m: measures[m]["why_undefined"] for measures in found.values() for m in names if _undefined(measures[m])}
    return [*lines, "", *align([header, *rows]), *(f"{m} undefined: {reason}" for m, reason in reasons.items())]


def interval_lines(metrics: Mapping[str, Any]) -> list[str]:
    """How often the intervals of scores hold the label, and how wide they are; or in one line why there are none."""
    about = metrics.get("intervals")
    if about is None:  # a run of an older version
        return []
    if "why_none" in about:
        return ["", f"no intervals of scores: {about['why_none']}"]
    fewest, most = about["videos"]
    videos = f"{most}" if fewest == most else f"{fewest} to {most}"
    made = f"made from {' and '.join(about['calibrated_on'])} ({videos} videos)"
    rows = [["pattern", "coverage", "95 % interval", "mean width", "n", "unbounded"]]
    for name, s in metrics["patterns"].items():
        one = s["interval"]
        ends = interval_text(one["coverage_low"], one["coverage_high"]) if one["n"] else ""
        shown = [number(one["coverage"]), ends, number(one["width"])] if one["n"] else ["", "", ""]
        rows.append([name, *shown, str(one["n"]), str(one["unbounded"])])
    lines = ["", f"intervals of scores at {about['level']:.0%}, {made}".replace("%", " %"), *align(rows)]
    if any(s["interval"]["unbounded"] for s in metrics["patterns"].values()):
        lines.append(
            f"unbounded: too few calibration videos show what is visible; {about['level']:g} takes "
            f"{fewest_videos(about['level'])}"
        )
    if about["selected_on_them"]:
        lines.append("the epoch was selected on the same videos, so the level holds approximately")
    return lines


def measure_text(measure: Mapping[str, Any]) -> str:
    """A further measure with its interval, as in metrics.json."""
    if "low" not in measure:
        return number(measure["value"])
    return (
        f"{number(measure['value'])} {interval_text(measure['low'], measure['high'], measure.get('why_no_interval'))}"
    )


def _undefined(measure: Mapping[str, Any]) -> bool:
    return "why_undefined" in measure


def no_interval_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Which numbers have no interval and why, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, scores in {**metrics["patterns"], "the average": metrics["average_incomplete"]}.items():
        if "why_no_interval" in scores:
            by_reason.setdefault(scores["why_no_interval"], []).append(name)
    return [f"no interval for {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def average_text(average: Mapping[str, Any]) -> str:
    """The Fisher-z average over incomplete patterns in one line, with the tested patterns that it leaves out."""
    count = average["patterns"]
    over = f"the {count} incomplete patterns" if count > 1 else "the one incomplete pattern"
    if left_out := average.get("left_out"):
        named = ", ".join(average["over"]) if count <= MOST_NAMED else f"the {count} incomplete subsets"
        over = f"{named}, without {', '.join(left_out)}"
    if average["undefined"]:
        return f"average of {over}: undefined, as is the SRCC of {', '.join(average['undefined'])}"
    text = f"average of {over} (Fisher z): SRCC {number(average['srcc'])}"
    text += f" {interval_of(average)}, MSE {number(average['mse'])}"
    return text + (f", ceiling {number(average['ceiling'])}" if "ceiling" in average else "")


def align(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines of a table: the columns `left` to the left, by default the first, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    sides = [str.ljust if i in left else str.rjust for i in range(len(widths))]
    lines = [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
