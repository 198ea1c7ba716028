from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from moodbench.app.url_state import DEFAULT, MAX_MODELS, MAX_NAMES, State, read_state
from moodbench.statistics.composite import COMPOSITES, Weights

words = (
    st.text(st.characters(exclude_characters=";", categories=("L", "N", "P", "Zs")), max_size=40)
    .map(str.strip)
    .filter(str.isprintable)
)
names = st.lists(words.filter(bool), max_size=MAX_MODELS, unique=True).map(tuple)
limits = st.none() | st.floats(0.01, 1e6).map(lambda x: float(f"{x:.6g}"))
weights = st.integers(0, 100)
parts = {
    "tab": words, "track": words, "accuracy": weights, "f1": weights, "throughput": weights, "latency": weights,
    "composite": st.sampled_from(sorted(COMPOSITES)), "search": words, "methods": names, "max_params": limits, "columns": names,
    "against": words, "models": names, "max_p99_ms": limits, "max_memory_mib": limits, "min_accuracy_percent": limits,
    "tuning": words, "sort": words,
}  # fmt: skip
states = st.builds(State, **parts)


def test_every_part_of_a_view_is_tried():
    assert set(parts) == set(State.__dataclass_fields__)


def of_query(query):
    return read_state(dict(parse_qsl(query, keep_blank_values=True)))


@given(states)
def test_an_address_leads_back_to_the_same_view(state):
    assert of_query(state.to_query()) == state


def test_a_plain_address_is_the_default_view_and_the_other_way_round():
    assert DEFAULT.to_query() == ""
    assert of_query("") == DEFAULT


def test_an_address_is_readable():
    state = State(track="overall (2 datasets)", latency=0, models=("MiniLM-L6", "vader"), max_p99_ms=25.0)
    assert state.to_query() == "track=overall+%282+datasets%29&latency=0&models=MiniLM-L6%3Bvader&max_p99_ms=25"


def test_weights_are_shares_of_their_sum():
    assert State(accuracy=10, f1=0, throughput=0, latency=30).weights == Weights(0.25, 0.0, 0.0, 0.75)
    assert State(accuracy=0, f1=0, throughput=0, latency=0).weights == Weights(), "no wish is the default"


@given(weights, weights, weights, weights)
def test_any_weights_can_be_used(a, b, c, d):
    State(accuracy=a, f1=b, throughput=c, latency=d).weights.as_series()  # refuses what does not add up to 1


def test_a_hostile_address_is_the_default_where_it_makes_no_sense():
    hostile = {
        "accuracy": "nan", "f1": "1e999", "throughput": "-7", "latency": "<script>", "max_p99_ms": "inf",
        "models": "a;b;c;d;e;a", "search": "x" * 10_000, "strange": "1", "sort": "a\x00b\n",
    }  # fmt: skip
    state = read_state(hostile)
    assert (state.accuracy, state.f1, state.throughput, state.latency) == (30, 30, 0, 20)
    assert state.max_p99_ms is None and state.models == ("a", "b", "c", "d") and len(state.search) == 200
    assert state.sort == "a b"
    numbers = dict.fromkeys(("accuracy", "max_params", "max_p99_ms"), 10**400)
    assert read_state(numbers) == DEFAULT, "a number without end is none"
    assert len(read_state({"columns": [f"c{number}" for number in range(1000)]}).columns) == MAX_NAMES


def test_a_limit_out_of_range_is_kept_for_its_tab_to_refuse():
    state = read_state({"max_p99_ms": "-5", "max_memory_mib": 0, "max_params": "-5"})
    assert (state.max_p99_ms, state.max_memory_mib, state.max_params) == (-5, 0, None)
    assert of_query(state.to_query()) == state


@given(st.dictionaries(st.sampled_from([*State.__dataclass_fields__, "other"]), st.text() | st.none() | st.floats()
                       | st.lists(st.text() | st.integers()) | st.integers()))  # fmt: skip
def test_nothing_in_an_address_is_an_error(given):
    state = read_state(given)
    assert of_query(state.to_query()) == state
