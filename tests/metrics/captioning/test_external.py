from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from typing import Any

import pytest

from imglish.errors import ConfigError
from imglish.metrics.captioning.external import meteor, meteor_of_set, spice


@pytest.mark.parametrize("score", [meteor, meteor_of_set, spice])
@pytest.mark.parametrize(("package", "java"), [(False, True), (True, False), (False, False)])
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, score: Any, package: bool, java: bool
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/java" if java else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if package else None)
    with pytest.raises(ConfigError, match="extra 'captions' and Java") as error:
        score([["a"]], [[["a"]]])
    assert ("imglish[captions]" in str(error.value)) is not package
    assert ("'java' on the PATH" in str(error.value)) is not java


def test_the_extra_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, imglish.metrics.captioning.external; assert 'pycocoevalcap' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # Java reads a large table of paraphrases first
def test_meteor_of_equal_captions_is_one() -> None:
    pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("METEOR needs Java")
    candidates, references = (
        ["a red star".split(), "a fish".split()],
        [["a red star".split()], ["moon".split()]],
    )
    assert meteor(candidates, references) == pytest.approx([1.0, 0.0])
    assert 0 < meteor_of_set(candidates, references) < 1
