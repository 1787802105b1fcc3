"""Run parity cases: ``python -m tests.parity.run CASES_DIR [--only GLOB]``.

Prints a line for each case (name, largest absolute and relative difference, verdict) and last
``parity: N ok, N failed, N not covered``. Exits with 1 where any case failed, with 2 where there is none.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tests.parity import (
    families_adapter,
    families_adapter_backbones,
    families_beit2,
    families_beit3,
    families_beit3_classification,
    families_beit3_files,
    families_beit3_pictures,
    families_beit3_training,
    families_beit_pretraining,
    families_checkpoints,
    families_detection_dense,
    families_detection_roi,
    families_segmentation,
    families_segmentation_training,
)
from tests.parity.case import Case, Check, NotCoveredError
from tests.parity.compare import compare

FAMILIES = (
    *families_beit3.FAMILIES,
    *families_beit3_classification.FAMILIES,
    *families_beit3_files.FAMILIES,
    *families_beit3_pictures.FAMILIES,
    *families_beit3_training.FAMILIES,
    *families_beit2.FAMILIES,
    *families_beit_pretraining.FAMILIES,
    *families_adapter.FAMILIES,
    *families_adapter_backbones.FAMILIES,
    *families_checkpoints.FAMILIES,
    *families_detection_dense.FAMILIES,
    *families_detection_roi.FAMILIES,
    *families_segmentation.FAMILIES,
    *families_segmentation_training.FAMILIES,
)

_DETECTION = ("det_head", "det_neck", "det_parts")


class Outcome(NamedTuple):
    """What came of a case; ``verdict`` begins with ``ok``, ``FAIL`` or ``not covered``."""

    name: str
    absolute: float
    relative: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.name:<40} {self.absolute:9.2e} {self.relative:9.2e}  {self.verdict}"

    @property
    def failed(self) -> bool:
        """Whether a number is off or the family crashed."""
        return self.verdict.startswith("FAIL")

    @property
    def ok(self) -> bool:
        """Whether all numbers agree."""
        return self.verdict == "ok"


def run_case(case: Case) -> Outcome:
    """Compare everything the case recorded; a crash is a failure like any other."""
    nan = float("nan")
    try:
        family = next((family for family in FAMILIES if family.applies(case)), None)
        if family is None:
            return Outcome(case.name, nan, nan, f"not covered: {_what(case)} comes with issue {_issue(case)}")
        return _judge(case.name, family.run(case))
    except NotCoveredError as error:
        return Outcome(case.name, nan, nan, f"not covered: {error}")
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).partition("\n")[0]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return Outcome(case.name, nan, nan, f"FAIL: {type(error).__name__}: {message} ({place})")


def _judge(name: str, checks: list[Check]) -> Outcome:
    if not checks:
        return Outcome(name, float("nan"), float("nan"), "FAIL: nothing was compared")
    differences = [compare(check) for check in checks]
    absolute = max(difference.absolute for difference in differences)
    relative = max(difference.relative for difference in differences)
    wrong = [check.name for check, difference in zip(checks, differences, strict=True) if not difference.ok]
    verdict = f"FAIL: {', '.join(wrong[:3])}" if wrong else "ok"
    if len(wrong) > 3:
        verdict += f" and {len(wrong) - 3} more of {len(checks)}"
    return Outcome(name, absolute, relative, verdict)


def _what(case: Case) -> str:
    parts = [str(case.json[key]) for key in ("family", "backbone") if key in case.json]
    return case.cls or " ".join(parts) or f"a case of {', '.join(list(case.json)[:3])}"


def _issue(case: Case) -> int:
    """The issue that brings a case's family: BEiT-3's rest, segmentation, or detection."""
    if "family" not in case.json:
        return 3
    detection = case.json["family"] in _DETECTION or case.json.get("tree") == "det"
    return 6 if detection else 5


def find_cases(folder: Path, only: str = "*") -> list[Case]:
    """Cases below a folder, by name."""
    found = (path.parent for path in folder.glob("*/case.json") if fnmatchcase(path.parent.name, only))
    return [Case(path) for path in sorted(found)]


def main(words: Sequence[str] | None = None) -> int:
    """Run the cases named on the command line, or in ``words``; returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare imglish with numbers of the official code.")
    parser.add_argument("cases", type=Path, metavar="CASES_DIR", help="folder of case folders")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only cases whose name matches")
    arguments = parser.parse_args(words)
    cases = find_cases(arguments.cases, arguments.only)
    if not cases:
        parser.error(f"{arguments.cases}: no case.json below it matches {arguments.only!r}")
    outcomes = []
    for case in cases:
        outcomes.append(run_case(case))
        print(outcomes[-1], flush=True)
    failed = sum(outcome.failed for outcome in outcomes)
    ok = sum(outcome.ok for outcome in outcomes)
    print(f"parity: {ok} ok, {failed} failed, {len(outcomes) - ok - failed} not covered")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
