from __future__ import annotations

from pathlib import Path

import pytest

from imglish.data.formats.json_entries import JsonStream, load_json, load_json_lines
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [{"id": 1}, {"id"', "not valid json at line 1 column 29"),
        ("", "not valid json at line 1 column 1"),
        ("[1, 2]", r"the file is \[1, 2\], not an object"),
        ("[" * 100_000, "not a json text"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_name_and_what_was_expected(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=words) as caught:
        load_json(path, "COCO captions json")
    message = str(caught.value)
    assert message.startswith(str(path)) and "expected COCO captions json" in message and "\n" not in message


def test_a_binary_file_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(DataFormatError, match=r"x\.json: not "):
        load_json(tmp_path / "x.json", "anything")
    with pytest.raises(DataFormatError, match="cannot be read"):
        load_json(tmp_path, "anything")
    with pytest.raises(DataFormatError, match=r"gone\.json: no such file; expected anything: check the path"):
        load_json(tmp_path / "gone.json", "anything")


def test_errors_tell_the_place_of_a_nested_value(write_json: WriteJson) -> None:
    file = load_json(write_json("x.json", {"people": [{}, {"pets": [{"name": 7}]}]}), "a list of people")
    pet = next(next(entry for entry in file.entries("people") if "pets" in entry).entries("pets"))
    with pytest.raises(DataFormatError, match=r"people\[1\]\.pets\[0\] has 7 at key 'name', not a string"):
        pet.text("name")
    with pytest.raises(DataFormatError, match=r"people\[1\]\.pets\[0\] has no key 'age'"):
        pet.integer("age")


@pytest.mark.parametrize(
    ("accessor", "value"),
    [
        ("integer", True),
        ("integer", 1.5),
        ("integer", "1"),
        ("number", float("nan")),
        ("number", None),
        ("number", False),
        ("text", 1),
    ],
)
def test_values_of_another_type_are_refused(write_json: WriteJson, accessor: str, value: object) -> None:
    file = load_json(write_json("x.json", {"key": value}), "anything")
    with pytest.raises(DataFormatError, match="at key 'key', not a"):
        getattr(file, accessor)("key")


@pytest.mark.parametrize("value", [[1, 2, 3], [1, 2, 3, "4"], "1234", None])
def test_lists_of_numbers_have_the_length_asked_for(write_json: WriteJson, value: object) -> None:
    with pytest.raises(DataFormatError, match="not a list"):
        load_json(write_json("x.json", {"key": value}), "anything").numbers("key", 4)


def test_json_lines_pass_over_blank_lines_and_name_the_bad_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [entry.integer("a") for entry in load_json_lines(path, "lines")] == [1, 2]
    path.write_text('{"a": 1}\n\n{"a": ')
    with pytest.raises(DataFormatError, match="not valid json at line 3 column 7"):
        list(load_json_lines(path, "lines"))


def test_a_stream_gives_the_elements_of_its_lists_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '\ufeff {"info": {"a": [1, {}]},\n "b" : [ {"n":2}\t, {"n": 3} ] ,"c":[], "a":[{"n": 1}]}\n'
    )
    stream = JsonStream(path, "lists")
    found = [(name, index, entry.integer("n")) for name, index, entry in stream.elements(("a", "b", "c"))]
    assert found == [("b", 0, 2), ("b", 1, 3), ("a", 0, 1)]
    with pytest.raises(DataFormatError, match="the file has no key 'd'; expected lists"):
        list(stream.elements(("a", "d")))
    _, _, entry = next(stream.elements(("b",)))
    with pytest.raises(DataFormatError, match=r"x\.json: b\[0\] has no key 'm'"):
        entry.text("m")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid json at line 1 column 1"),
        ("[{}]", r"the file is \[{}\], not an object"),
        ('{"a": 3}', "has 3 at key 'a', not a list"),
        ('{"a": [3]}', r"a\[0\] is 3, not an object"),
        ('{"a": [{}', "not valid json at line 1 column 10"),
        ('{"a": [{},]}', "trailing comma"),
        ('{"a": [{}],}', "trailing comma"),
        ('{"a": [{} {}]}', "Expecting ',' delimiter"),
        ('{"a" [{}]}', "Expecting ':' delimiter"),
        ('{"a": [{}]} {', "Extra data"),
        ('{"a": [{}]', "not valid json"),
        ('{"a": [{"b": ' + "[" * 100_000, "not a json text"),
    ],
)
def test_a_damaged_stream_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=words) as caught:
        list(JsonStream(path, "lists of objects").elements(("a",)))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xd8")
    with pytest.raises(DataFormatError, match="not a json text"):
        list(JsonStream(path, "lists of objects").elements(("a",)))
