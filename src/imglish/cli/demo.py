"""``imglish demo``: see the whole method work."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from imglish.recipes.demo.run import DemoOptions, run_demo


def run(arguments: Sequence[str]) -> None:
    """Run the demo, or go on where it stopped; it says itself where the report is."""
    run_demo(tyro.cli(DemoOptions, args=arguments, prog="imglish demo"))
