from moodbench.errors import UnknownNameError, nearest


def test_an_unknown_name_suggests_the_nearest_ignoring_case():
    assert "did you mean 'MiniLM-L6'?" in str(UnknownNameError("model", "minilm-6", ["vader", "MiniLM-L6"]))


def test_nothing_is_suggested_when_nothing_is_near():
    assert nearest("zzzz", ["vader", "MiniLM-L6"]) is None
