import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.spec.resolved import canonical_json, content_id

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_an_id_is_twenty_hex_digits_worked_out_by_sha256sum():
    # printf '{"identity_version":1,"kind":"fit","value":{"a":0.0002,"b":"é"}}' | sha256sum
    assert content_id("fit", {"b": "é", "a": 2e-4}) == "7ef82b82be2b9d4c0b16"


@given(json_values)
def test_canonical_json_is_json_with_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2, max_size=6))
def test_key_order_does_not_change_an_id(value):
    backwards = dict(reversed(value.items()))
    assert content_id("x", value) == content_id("x", backwards)


def test_the_kind_is_part_of_the_id():
    assert content_id("fit", {}) != content_id("config", {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_has_no_id(value):
    with pytest.raises(ValueError, match="JSON"):
        content_id("fit", {"learning_rate": value})
