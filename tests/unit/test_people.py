"""What people reach, beside the board: figures by hand, and that no rank or score knows of them."""

import json

import numpy as np
import pytest
from test_ceiling import panels
from toy_store import change_row, path_of, write_toy_store

from moodbench.analysis.results import HALF_PANEL, ONE_RATER, reference_rows
from moodbench.cli import main
from moodbench.store import write_table
from moodbench.store.schema import EXAMPLES, stamped

UNANIMOUS, SPLIT = (2, 2, 2), (2, 2, -1)


def test_the_row_of_one_rater_is_the_mean_over_items_with_its_interval():
    # shares 1 and 2/3, as often: mean 5/6, standard deviation 1/6 * sqrt(20/19), n = 20
    half, alone = reference_rows("t", panels(UNANIMOUS, SPLIT, copies=10), 2, 0.5)
    assert (half["name"], alone["name"]) == (HALF_PANEL, ONE_RATER)
    assert alone["accuracy"] == pytest.approx(5 / 6)
    width = 1.959964 * np.sqrt(1 / 36 * 20 / 19) / np.sqrt(20)
    assert (alone["accuracy_low"], alone["accuracy_high"]) == pytest.approx((5 / 6 - width, 5 / 6 + width))
    assert (alone["num_test"], alone["num_ratings"], alone["f1_macro"]) == (20, 60, None)
    assert 0.5 < half["accuracy_low"] < half["accuracy"] < half["accuracy_high"] <= 1


def with_raters(store, panel):
    """The toy store's examples with the same panel for every text, and evaluations that knew of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path_of(store, "examples/*/*.parquet")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    counts = panels(panel)[0].tolist()
    table = pa.Table.from_pylist([row | {"rating_counts": counts} for row in rows], schema=stamped(EXAMPLES))
    path.unlink()
    write_table(table, path)
    change_row(store, "evaluations/*/*.parquet", ceiling_accuracy=1.0)


def shown(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_rows_stand_on_the_board_and_change_no_other(tmp_path, capsys):
    store = write_toy_store(tmp_path / "store")
    before = json.loads(shown(capsys, "leaderboard", "--store", store.uri, "--json"))
    assert before["references"] == []
    with_raters(store, SPLIT)
    after = json.loads(shown(capsys, "leaderboard", "--store", store.uri, "--json"))
    assert after["board"] == before["board"]
    half, alone = after["references"]
    assert alone["accuracy"] == pytest.approx(2 / 3)
    assert alone["accuracy_low"] == pytest.approx(2 / 3)  # every text has the same panel
    words = shown(capsys, "leaderboard", "--store", store.uri)
    (line,) = [line for line in words.splitlines() if ONE_RATER in line and "66.7" in line]
    assert line.split()[0] == "ref"
    assert "leave one out" in words
    shown(capsys, "report", "--store", store.uri, "--output", str(tmp_path / "out"))
    assert (
        '<td class="left">one rater</td><td></td><td>66.7 [66.7, 66.7]</td>'
        in (tmp_path / "out/report.html").read_text()
    )
    assert "| ref | one rater |" in (tmp_path / "out/report.md").read_text()
    assert half["f1_macro"] is not None


def test_the_page_puts_them_at_the_foot_of_the_table(tmp_path):
    from moodbench.app.leaderboard_table import leaderboard_table
    from moodbench.hardware import hardware
    from moodbench.report.leaderboard_view import view_leaderboard

    store = write_toy_store(tmp_path)
    with_raters(store, SPLIT)
    view = view_leaderboard(store, hardware())
    (name,) = view.tracks
    rows = view.track(name)
    html = leaderboard_table(rows, rows, view.failures, references=view.references_of(name))
    body, foot = html.split("<tfoot")
    assert "one rater" not in body
    assert foot.count("<tr") == 2
    assert "66.7 [66.7, 66.7]" in foot
    assert leaderboard_table(rows, rows, view.failures).count("<tfoot") == 0


def test_columns_on_request_stand_after_the_recall(tmp_path, capsys):
    from moodbench.app.leaderboard_table import leaderboard_table
    from moodbench.app.url_state import State, read_state
    from moodbench.hardware import hardware
    from moodbench.report.formatting import COLUMNS, columns_with
    from moodbench.report.leaderboard_view import view_leaderboard

    store = write_toy_store(tmp_path)
    with_raters(store, SPLIT)
    assert columns_with(()) == COLUMNS
    headings = [c.heading for c in columns_with(("ece", "nll", "nonsense"))]
    place = headings.index("Recall %")
    assert headings[place + 1 : place + 3] == ["NLL", "ECE %"]
    assert len(headings) == len(COLUMNS) + 2
    view = view_leaderboard(store, hardware())
    nll = f"{view.rows['nll'].iloc[0]:.3f}"
    words = shown(capsys, "leaderboard", "--store", store.uri, "--columns", "nll", "mcc")
    assert nll in words
    assert "0.500" in words  # three of four right in either class: MCC 1/2
    assert nll not in shown(capsys, "leaderboard", "--store", store.uri)
    rows, references = view.track(view.tracks[0]), view.references_of(view.tracks[0])
    html = leaderboard_table(rows, rows, view.failures, references=references, columns=columns_with(("nll",)))
    assert f"<span>{nll}</span>" in html
    assert html.count('data-key="nll"') == 1
    state = read_state({"columns": "nll;mcc"})
    assert state == State(columns=("nll", "mcc"))
    assert read_state(dict([state.to_query().replace("%3B", ";").split("=")])) == state
