"""Which videos of a run have an explanation on a page in the run's folder, and how a report links to them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aqa.errors import AqaError, printable
from aqa.reporting.naming import LONGEST, slug_and_digest
from aqa.runs.folder import RunFolder
from aqa.system.files import has_file

EXPLAINED, PAGE = "explained", "index.html"  # in a run's folder, where `aqa explain RUN` writes by default
PLAIN_ID = re.compile(r"[A-Za-z0-9_.-]+")
OF_PAGE = re.compile(r'<meta name="aqa-explains" content="([0-9a-f]*)">')
ANCHOR = re.compile(r'<details class="video" id="([^"]+)"')
OTHER_SCORES = "explains other scores"


def video_anchor(video: str) -> str:
    """The place of a video on a page of explanations: a name that follows from its id alone, another for each id."""
    if PLAIN_ID.fullmatch(video) and len(video) <= LONGEST:
        return f"video-{video}"
    return f"v-{slug_and_digest(video)}"


def scores_digest(folder: RunFolder) -> str:
    """A digest of what a finished run scores with: that of its checkpoint, or of its experiment in older runs."""
    files = folder.metrics.get("files")
    told = json.dumps(files, sort_keys=True) if isinstance(files, dict) and files else folder.identity
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def place_in_run(runs: Sequence[Path]) -> Path:
    """Where the explanation of a run is written by default; AqaError of several, which have no folder in common."""
    if len(runs) > 1:
        raise AqaError("several runs are explained together: name a folder with --out")
    return runs[0] / EXPLAINED


@dataclass(frozen=True)
class ExplainedVideos:
    """What a run's folder explains: run, its folder; page, relative to the report, as in a link.

    anchors: of the videos on the page. why_none: why there are none, in words.
    """

    run: Path
    page: str
    anchors: frozenset[str]
    why_none: str = ""

    def link(self, video: str) -> str:
        """To the explanation of a video; "" where there is none."""
        anchor = video_anchor(video)
        return f"{self.page}#{anchor}" if anchor in self.anchors else ""


def explained_videos(run: Path, report: Path) -> ExplainedVideos:
    """What the folder of a run explains, for a report in another folder."""
    page = run / EXPLAINED / PAGE
    try:
        text = page.read_text(encoding="utf-8") if has_file(page) else ""
    except (AqaError, OSError, ValueError):
        text = ""
    if not text:
        return ExplainedVideos(run, "", frozenset(), "has no explanation")
    stated = OF_PAGE.search(text)
    if stated is None or stated[1] != scores_digest(RunFolder(run)):
        return ExplainedVideos(run, "", frozenset(), OTHER_SCORES)
    return ExplainedVideos(run, _relative(page, report), frozenset(ANCHOR.findall(text)))


def _relative(page: Path, report: Path) -> str:
    """A link from the folder of a report; absolute where another drive has the page."""
    try:
        path = os.path.relpath(page.resolve(), report.resolve())
    except ValueError:
        return page.resolve().as_uri()
    return quote(os.fsencode(Path(path).as_posix()))


def lacking_text(found: Sequence[tuple[str, ExplainedVideos]]) -> tuple[str, list[str]]:
    """What is said of models whose scores have no explanation, by label; and the commands that make them."""
    lacking = [(label, each) for label, each in found if each.why_none]
    none = [label for label, each in lacking if each.why_none != OTHER_SCORES]
    other = [label for label, each in lacking if each.why_none == OTHER_SCORES]
    words = [f"No explanation of single videos yet: {', '.join(none)}."] if none else []
    words += [f"The explanation beside the run is of other scores: {', '.join(other)}."] if other else []
    commands = [
        f"aqa explain {shlex.quote(printable(str(each.run)))}{' --overwrite' * (each.why_none == OTHER_SCORES)}"
        for _, each in lacking
    ]
    return " ".join(words), commands
