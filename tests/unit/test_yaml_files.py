import math

import pytest
import yaml

from moodbench.config.yaml_files import line_of, load_yaml, with_entry
from moodbench.errors import SpecError

NUMBERS = {
    "2e-4": 0.0002, "1e3": 1000.0, ".5": 0.5, "-1.5E+3": -1500.0, "+.5e1": 5.0, "1.": 1.0, "16": 16, "-3": -3, "0": 0,
    "0.05": 0.05, ".inf": math.inf,
}  # fmt: skip
WORDS = [
    "no",
    "on",
    "yes",
    "off",
    "y",
    "NO",
    "e3",
    "2e",
    "1.2.3",
    "2e-4x",
    ".",
    "2024-01-31",
    "2024-99-99",
    "1:30",
    "010",
]


@pytest.mark.parametrize(("written", "meant"), NUMBERS.items())
def test_numbers_are_read_as_people_write_them(written, meant):
    value = load_yaml(f"a: {written}", "x.yaml")["a"]
    assert (type(value), value) == (type(meant), meant)


def test_not_a_number_is_a_float_so_that_its_reader_can_refuse_it_by_name():
    assert math.isnan(load_yaml("a: .nan", "x.yaml")["a"])


@pytest.mark.parametrize("word", WORDS)
def test_words_stay_words(word):
    assert load_yaml(f"a: {word}", "x.yaml") == {"a": word}


@pytest.mark.parametrize(("written", "meant"), [("true", True), ("False", False), ("null", None), ("~", None)])
def test_true_false_and_null_are_values(written, meant):
    assert load_yaml(f"a: {written}", "x.yaml")["a"] is meant


def test_a_quoted_number_is_a_word():
    assert load_yaml("a: '2e-4'", "x.yaml") == {"a": "2e-4"}


def test_nothing_is_an_empty_mapping():
    assert load_yaml("# only a remark\n", "x.yaml") == {}


def test_a_key_given_twice_is_refused_with_both_lines():
    with pytest.raises(SpecError, match=r"x\.yaml, line 4: key 'r' is given twice, first in line 2"):
        load_yaml("lora:\n  r: 8\n  lora_alpha: 16\n  r: 4\n", "x.yaml")


def test_the_same_key_in_two_mappings_is_fine():
    assert load_yaml("a: {r: 1}\nb: {r: 2}", "x.yaml") == {"a": {"r": 1}, "b": {"r": 2}}


MERGED = """\
one: &one {embedded: movie, band: 0.5}
two: &two {licence: MIT, band: 1}
both:
  <<: [*one, *two]
  licence: none
"""


def test_merge_keys_fill_in_what_is_not_given_and_the_first_of_several_wins():
    # PyYAML's own loader is the oracle: these values mean the same in YAML 1.1.
    loaded = load_yaml(MERGED, "x.yaml")
    assert loaded == yaml.safe_load(MERGED)
    assert loaded["both"] == {"embedded": "movie", "band": 0.5, "licence": "none"}


TEXT = """\
# remark
models:
  mine: &base
    train:
      learning_rate: 1
    layers:
      - a
      - b
  other: *base
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("models",), 2),
        (("models", "mine"), 3),
        (("models", "mine", "train", "learning_rate"), 5),
        (("models", "mine", "layers", 1), 8),
        (("models", "mine", "layers", 7), 6),
        (("models", "mine", "train", "absent", "deeper"), 4),
        (("models", "mine", "train", "learning_rate", "deeper"), 5),
        (("absent",), 2),
    ],
)
def test_line_of_is_the_line_of_the_value_or_of_its_nearest_parent(path, line):
    assert line_of(TEXT, path) == line


def test_an_empty_text_has_no_lines():
    assert line_of("", ("a",)) is None


MINE = """# my models
models:
  # the first
  one: {licence: MIT, description: one}   # kept
  MiniLM-L3-tuned:
    licence: MIT
    description: old

# about training
training: {}
"""


def test_an_entry_is_replaced_and_the_rest_of_the_file_stays() -> None:
    changed, before = with_entry(
        MINE, "mine.yaml", "models", "MiniLM-L3-tuned", {"description": "new", "lora": {"r": 8}}
    )
    assert before == {"licence": "MIT", "description": "old"}
    expected = MINE.replace("    licence: MIT\n    description: old\n", "    description: new\n    lora:\n      r: 8\n")
    assert changed == expected


@pytest.mark.parametrize("text", ["", "# mine\n", "models:\n", "models: {}\n# end\n", "training: {}", MINE])
def test_an_entry_is_added_to_any_file(text: str) -> None:
    changed, before = with_entry(text, "mine.yaml", "models", "new", {"description": "é"})
    old = load_yaml(text, "mine.yaml")
    assert before is None
    assert load_yaml(changed, "mine.yaml") == {
        **old,
        "models": {**(old.get("models") or {}), "new": {"description": "é"}},
    }
    assert all(line in changed.splitlines() for line in text.splitlines() if line.startswith("#"))


def test_a_section_in_one_line_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"mine.yaml, line 2: models is written on one line"):
        with_entry("training: {}\nmodels: {one: {description: x}}\n", "mine.yaml", "models", "new", {})


def test_a_text_can_be_marked_as_such_and_a_value_can_be_named_and_used_again():
    assert load_yaml("a: !!str 5\nb: &b {c: 1}\nd: *b\ne: {<<: *b, f: 2}", "x.yaml") == {
        "a": "5", "b": {"c": 1}, "d": {"c": 1}, "e": {"c": 1, "f": 2},
    }  # fmt: skip
