"""JSON and YAML from anywhere are an object, or one sentence; and the question what was meant."""

import json

import pytest

from unmasked.datasets.codebooks import load_codebook
from unmasked.datasets.documents import first_line, parse_json, read_json, read_yaml
from unmasked.datasets.errors import InputError, did_you_mean, nearest_name


def test_json_is_what_was_written(tmp_path):
    written = {"name": "é", "values": [1, 2.5, None], "nested": {"a": True}}
    (tmp_path / "a.json").write_text(json.dumps(written), encoding="utf-8")
    assert read_json(tmp_path / "a.json", "write it again") == written


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe{}", "is no text in UTF-8"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b"1", "holds no JSON object"),
    ],
)
def test_what_is_no_json_object_is_one_sentence_with_what_to_do(tmp_path, content, said):
    path = tmp_path / "detector.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^card .*detector\.json {said}.*; copy it again$") as error:
        read_json(path, "copy it again", what="card")
    assert "\n" not in str(error.value)


def test_an_absent_file_or_a_folder_is_said_to_be_one(tmp_path):
    with pytest.raises(InputError, match=r"none\.json does not exist; give another$"):
        read_json(tmp_path / "none.json", "give another")
    with pytest.raises(InputError, match=r"cannot be read \(a folder\); give another$"):
        read_json(tmp_path, "give another")
    with pytest.raises(InputError, match=r"none\.yaml does not exist; correct it$"):
        read_yaml(tmp_path / "none.yaml")


def test_a_line_of_json_is_said_to_be_from_its_file():
    assert parse_json('{"step": 1}', "metrics.jsonl", "train again") == {"step": 1}
    with pytest.raises(InputError, match=r"^metrics\.jsonl is not valid JSON .*; train again$"):
        parse_json('{"step": 1', "metrics.jsonl", "train again")


def test_yaml_numbers_are_numbers_and_interpolations_stay(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: 2e-4\nname: ${other}\n1: one\n")
    assert read_yaml(tmp_path / "a.yaml") == {"rate": 2e-4, "name": "${other}", "1": "one"}
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") == {}


@pytest.mark.parametrize("content", ["[", "a: [1\nb: }", "- 1\n- 2", "1", "a: 1\na: 2", "\x00"])
def test_what_is_no_yaml_mapping_is_one_sentence(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"^code book .*mine\.yaml .*; see the examples$") as error:
        read_yaml(path, "see the examples", what="code book")
    assert "\n" not in str(error.value)


def test_a_broken_code_book_is_no_traceback(tmp_path):
    """`load_codebook` let PyYAML's own error through."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: [a\nvideo_key: }")
    with pytest.raises(InputError, match=r"^code book .*mine\.yaml is not valid YAML"):
        load_codebook(path)


def test_an_error_without_words_is_called_by_its_name():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_nearest_name_is_asked_for_and_nothing_is_asked_without_one():
    assert nearest_name("gendre", iter(["age", "gender"])) == "gender"
    assert nearest_name("zzz", ["age", "gender"]) is None
    assert did_you_mean("gendre", ["age", "gender"]) == " (is 'gender' meant?)"
    assert did_you_mean("zzz", ["age", "gender"]) == ""
    assert did_you_mean("gender", []) == ""
