"""Scores on the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def print_scores(run: Path, scores: Mapping[str, float]) -> None:
    """Print a line for each score of a run, once among all ranks of torchrun."""
    if os.environ.get("RANK", "0") != "0":
        return
    width = max(map(len, scores), default=0)
    print(run)
    for name, value in scores.items():
        print(f"  {name:{width}}  {value:.4g}")
