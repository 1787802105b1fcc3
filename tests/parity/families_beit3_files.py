"""Parity family of the files that BEiT-3's fine-tuning reads: what ours reads is all that they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imglish.data.formats.beit3_index import (
    read_class_index,
    read_nlvr2_index,
    read_text_index,
    read_vqa_index,
)
from imglish.data.vocabulary import load_vocabulary
from tests.parity.case import Case, Check, Family, NotCoveredError


def run_index_files(case: Case) -> list[Check]:
    """Lines of the official index files, read and put together again."""
    checks = []
    with TemporaryDirectory() as name:
        root = Path(name)
        for file, recorded in case.json["files"].items():
            lines = recorded["first_lines"]
            path = root / file
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            for picture in (value for line in lines for key, value in line.items() if key.endswith("_path")):
                (root / picture).parent.mkdir(parents=True, exist_ok=True)
                (root / picture).touch()
            checks.append(Check(file, _lines_of(file, path, root, lines), lines, "integer"))
    return checks


def _lines_of(file: str, path: Path, root: Path, lines: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """What our readers found, in the words of the file; which reader it is, is told by the keys of a line."""

    def name(picture: Path) -> str:
        return picture.relative_to(root).as_posix()

    keys = lines[0].keys() if lines else {"qid"}
    if "answer" in keys:
        answers = load_vocabulary(path).answers
        return [{"answer": answer, "label": label} for label, answer in enumerate(answers)]
    if "qid" in keys:
        return [
            {
                "image_path": name(question.path),
                "text_segment": list(question.token_ids),
                "labels": list(question.labels),
                "scores": list(question.scores),
                "qid": question.question_id,
            }
            for question in read_vqa_index(path, root)
        ]
    if "image2_path" in keys:
        return [
            {
                "image_path": name(statement.left),
                "image2_path": name(statement.right),
                "text_segment": list(statement.token_ids),
                "label": int(statement.label),
                "identifier": statement.identifier,
            }
            for statement in read_nlvr2_index(path, root)
        ]
    if "image_id" in keys:
        return [
            {
                "image_path": name(text.path),
                "text_segment": None if text.token_ids is None else list(text.token_ids),
                "image_id": text.image_id,
            }
            for text in read_text_index(path, root)
        ]
    if keys == {"image_path", "label"}:
        return [
            {"image_path": name(picture.path), "label": picture.label}
            for picture in read_class_index(path, root)
        ]
    raise NotCoveredError(f"{file} with {', '.join(keys)} is read by nothing of ours")


def _is_index(case: Case) -> bool:
    files = case.json.get("files")
    return isinstance(files, dict) and all("first_lines" in recorded for recorded in files.values())


FAMILIES: tuple[Family, ...] = (Family(_is_index, run_index_files),)
