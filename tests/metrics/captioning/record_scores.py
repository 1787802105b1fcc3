"""Write down what pycocoevalcap 1.2 says about the World's captions.

Run from the root of the repository, with Java on the PATH:

    uv pip install --no-deps --target oracle pycocoevalcap==1.2 pycocotools
    PYTHONPATH=oracle python -m tests.metrics.captioning.record_scores
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from tests.metrics.captioning.world_captions import RECORDED, Captions, drawn

DIGITS = 9  # of a score; a thousand times finer than what the tests ask for


def tokenized(captions: Captions) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates by picture, split into words by Stanford's program in Java."""
    tokenizer: Any = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    references = {i: [{"caption": text} for text in texts] for i, texts in enumerate(captions.references)}
    candidates = {i: [{"caption": text}] for i, text in enumerate(captions.candidates)}
    return tokenizer.tokenize(references), tokenizer.tokenize(candidates)


def official_scores(
    references: dict[int, list[str]], candidates: dict[int, list[str]]
) -> dict[str, list[float]]:
    """Of ``rouge_l`` and ``cider`` one score for each caption, of ``bleu`` four for all together."""
    bleu: Any = importlib.import_module("pycocoevalcap.bleu.bleu").Bleu(4)
    rouge: Any = importlib.import_module("pycocoevalcap.rouge.rouge").Rouge()
    cider: Any = importlib.import_module("pycocoevalcap.cider.cider").Cider()
    return {
        "bleu": [float(score) for score in bleu.compute_score(references, candidates, verbose=0)[0]],
        "rouge_l": [float(score) for score in rouge.compute_score(references, candidates)[1]],
        "cider": [float(score) for score in cider.compute_score(references, candidates)[1]],
    }


def main() -> None:
    captions = drawn()
    scores = official_scores(*tokenized(captions))
    data = {
        "made_by": "python -m tests.metrics.captioning.record_scores (pycocoevalcap 1.2)",
        "scores": {name: [round(score, DIGITS) for score in values] for name, values in scores.items()},
        "candidates": captions.candidates,
        "references": captions.references,
    }
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(data, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
