"""The report: the same figures as the board, nothing that asks for anything, and no text of a dataset."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from refused import fail
from toy_store import SECRET, write_toy_store

from moodbench.analysis.robustness import Robustness, stability
from moodbench.cli import main
from moodbench.hardware import hardware
from moodbench.report.charts import draw
from moodbench.report.figures import COSTS, joined_ranges, trade_off
from moodbench.report.formatting import COLUMNS, cells
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.notes import effect_sentence
from moodbench.report.report import all_datasets, rank_probabilities, ties, trade_offs
from moodbench.report.tables import CALIBRATION_HEADINGS
from moodbench.statistics.all_pairs import all_pairs, pair_p_values
from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.composite import Weights
from moodbench.statistics.rank_intervals import rank_all


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    store = write_toy_store(root / "store")
    with pytest.raises(SystemExit) as ended:
        main(["report", "--store", str(root / "store"), "--output", str(root / "out")])
    assert ended.value.code == 0
    return store, root / "out"


def entries(rows):
    """The rows with every column that the trade-off figure reads, missing where a test does not give it."""
    read = ("accuracy_low", "accuracy_high", *COSTS)
    return rows.assign(method="lora").assign(**{column: np.nan for column in read if column not in rows})


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.cells, self.open = [], [], None

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data):
        if self.open == "td":
            self.cells.append(data)

    def handle_endtag(self, tag):
        self.open = None


def test_it_writes_the_report_the_figures_and_the_numbers(written):
    assert sorted(p.name for p in written[1].iterdir() if not p.name.startswith("figure-")) == [
        "calibration.csv",
        "calibration.json",
        "leaderboard.csv",
        "leaderboard.json",
        "report.html",
        "report.md",
    ]


def test_only_the_requested_formats_are_written(written, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["report", "--store", written[0].uri, "--format", "html", "latex", "--output", str(tmp_path)])
    assert ended.value.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaderboard.tex", "report.html"]
    assert (tmp_path / "report.html").read_bytes() == (written[1] / "report.html").read_bytes()


def test_its_tables_are_those_of_the_board(written):
    store, folder = written
    expected = cells(view_leaderboard(store, hardware()).rows).to_numpy().tolist()
    tags = Tags()
    tags.feed((folder / "report.html").read_text())
    width = len(COLUMNS)
    assert [tags.cells[:width]] == expected
    assert len(tags.cells) == width + len(CALIBRATION_HEADINGS)
    lines = [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| ")]
    shown = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert shown[0] == [c.heading for c in COLUMNS] and [shown[2]] == expected
    assert shown[3] == list(CALIBRATION_HEADINGS) and shown[5] == tags.cells[width:]
    assert pd.read_csv(folder / "leaderboard.csv")["accuracy"].tolist() == [0.75]  # six of eight, by hand
    assert json.loads((folder / "leaderboard.json").read_text())["board"][0]["accuracy"] == 0.75


def test_the_page_asks_for_nothing_and_runs_nothing(written):
    text = (written[1] / "report.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.found}
    for tag, attributes in tags.found:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action"):
                assert value.startswith("#"), (tag, value)
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(
        a["content"] for t, a in tags.found if t == "meta" and "content" in a and "default-src" in a["content"]
    )
    assert policy.startswith("default-src 'none'")


def test_ids_of_the_figures_are_unique_and_every_reference_has_its_target(written):
    text = (written[1] / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 4
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(ids)


def test_no_file_holds_a_text_of_the_data(written):
    for path in written[1].iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_a_second_report_is_the_same_to_the_byte(written, tmp_path):
    store, folder = written
    with pytest.raises(SystemExit):
        main(["report", "--store", store.uri, "--output", str(tmp_path)])
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in files if (tmp_path / name).read_bytes() != (folder / name).read_bytes()] == []


def test_every_figure_is_beside_the_report_as_svg_and_as_png(written):
    folder = written[1]
    text = (folder / "report.md").read_text()
    linked = re.findall(r"\(((?:figure)-[^)]+)\)", text)
    assert sorted(linked) == sorted(path.name for path in folder.glob("figure-*")) and len(linked) >= 8
    stems = {Path(name).stem for name in linked}
    assert len(linked) == 2 * len(stems)
    assert {stem.split("-texts-")[-1] for stem in stems} >= {"accuracy", "error-and-latency", "reliability"}
    page = (folder / "report.html").read_text()
    for stem in stems:
        svg = (folder / f"{stem}.svg").read_text()
        drawn = ElementTree.fromstring(svg)
        assert page.count(svg[svg.index("<svg") :]) == 1, "the page shows the same"
        image = matplotlib.image.imread(folder / f"{stem}.png")
        width, height = (float(drawn.get(side).removesuffix("pt")) for side in ("width", "height"))
        assert image.shape[:2] == pytest.approx((height * 150 / 72, width * 150 / 72), abs=1), "both of one size"
        shades = np.unique(image[:, :, :3].reshape(-1, 3), axis=0)
        assert len(shades) > 20 and (image[0, 0, :3] == 1).all(), "something is drawn, on white"


def test_a_figure_is_well_formed_and_shows_every_name():
    rows = pd.DataFrame(
        {
            "name": ["A<b>", "B", "C"],
            "latency_p50_s": [0.001, 0.01, np.nan],
            "accuracy": [0.7, 0.8, 0.9],
            "provisional": [False, True, False],
        }
    )
    svg = draw(trade_off(entries(rows)), "trade-off", "").svg
    texts = {e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")}
    assert {"A<b>", "B (provisional)"} <= texts and "C" not in texts


def test_names_of_near_points_cover_neither_each_other_nor_a_point_and_the_axis_has_plain_numbers():
    """Two points a few pixels apart: the lower one's name stands below it; nothing was disturbed, so that nothing is said of it."""
    rows = pd.DataFrame({"name": ["lower", "upper", "far"], "accuracy": [0.880, 0.873, 0.6], "verdict": "clean"})
    rows = rows.assign(provisional=False, memory_peak_batch1_bytes=np.array([69, 71, 300]) * 2.0**20)
    svg = draw(trade_off(entries(rows), "memory_peak_batch1_bytes", as_error=True), "near", "").svg
    texts = [e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")]
    words = [e.text for e in texts]
    assert {"50", "100", "200"} <= set(words) and not any("10^" in str(w) or "disturbed" in str(w) for w in words)
    heights = {
        e.text: float(re.search(r"[\d.]+\)$", e.get("transform")).group(0)[:-1])
        for e in texts
        if e.text in ("lower", "upper")
    }
    assert heights["lower"] - heights["upper"] > 10, "in SVG down is more"


def test_error_is_drawn_against_each_cost_that_somebody_has():
    rows = pd.DataFrame(
        {
            "name": ["A", "B"],
            "verdict": ["clean", "invalid"],
            "latency_p50_s": [np.nan, 0.01],
            "memory_peak_batch1_bytes": [2.0**30, 2.0**20],
            "train_time_s": [0.0, 12.0],
            "accuracy": [0.7, 0.8],
            "provisional": [False, False],
        }
    )
    found = {each.caption.split(";")[0]: each.drawing.svg for each in trade_offs(entries(rows), "movie", "movie")}
    assert list(found) == ["Error against memory", "Error against training time"], "an invalid clock is no latency"
    names = {
        k: {e.text for e in ElementTree.fromstring(v).iter() if e.tag.endswith("text")} & {"A", "B (invalid)"}
        for k, v in found.items()
    }
    assert names == {"Error against memory": {"A"}, "Error against training time": {"B (invalid)"}}


def test_an_empty_store_and_a_folder_that_cannot_be_written_are_refused(tmp_path, capsys):
    assert "holds no records" in fail(["report", "--store", str(tmp_path / "none")], capsys)
    store = write_toy_store(tmp_path / "store")
    Path(tmp_path / "file").write_text("")
    message = fail(["report", "--store", store.uri, "--output", str(tmp_path / "file")], capsys)
    assert "cannot be written" in message and "--output" in message


def test_the_report_says_who_ties_for_the_best_accuracy():
    truth = np.arange(400) % 2
    good = np.where(np.arange(400) % 10 == 0, 1 - truth, truth)  # 90 % right
    drawn = bootstrap_draws(truth, [good, good, 1 - good], "ABC", 2)
    ranking = rank_all(drawn.names, drawn.accuracy, drawn.accuracy_draws, drawn.num_items)
    assert ranking.tied_best.tolist() == [True, True, False]
    rows = pd.DataFrame({"name": ["A", "B", "C"], "tied_best": ranking.tied_best})
    pairs = all_pairs(drawn, pair_p_values(truth, [good, good, 1 - good], [(0,)] * 3))
    # A and B agree throughout, C is wrong where they are right: the median pair differs everywhere, d = 1
    assert ties(pairs, rows) == (
        "Tied for the best accuracy: A, B (all pairs at once, 5 %). Smallest difference in accuracy detectable with 80 % power: 14.0 "
        "points for one pair, 16.2 for all 3 at once (median pair; new texts, these weights). Significant pairs, all tested at once: "
        "2 of 3 by max-T, 2 by Holm on each pair's own test."
    )


def test_where_most_pairs_answer_alike_no_difference_of_0_points_is_promised():
    truth = np.arange(400) % 2
    drawn = bootstrap_draws(truth, [truth, truth], "AB", 2)
    words = effect_sentence(all_pairs(drawn, pair_p_values(truth, [truth, truth], [(0,)] * 2)))
    assert words.startswith(
        "Smallest difference in accuracy detectable with 80 % power: unknown, because most pairs agree on nearly all texts. "
    )
    assert words.endswith("Significant pairs, all tested at once: 0 of 1 by max-T, 0 by Holm on each pair's own test.")


def test_from_ten_data_sets_on_the_report_has_tests_over_data_sets():
    """Ten tracks on which A is always ahead of B, and B of C: Wilcoxon's smallest p for ten pairs is 2 / 2^10, times 3 by Holm."""
    board = pd.DataFrame(
        [
            {
                "track": f"t{i} (10 training texts)",
                "dataset": f"t{i}",
                "name": name,
                "accuracy": 0.9 - gap * (1 + i / 10),
            }
            for i in range(10)
            for name, gap in (("A", 0.0), ("B", 0.05), ("C", 0.1))
        ]
    )
    board["f1_macro"] = np.nan
    (found,) = all_datasets(board, 1)
    assert "Over 10 datasets, 3 entries" in found.caption and "separates 3 of 3 pairs" in found.caption
    svg = found.drawing.svg
    assert svg.count("<svg") == 1 and "A  1.00" in svg and "C  3.00" in svg
    fewer = board[board["dataset"] != "t3"]
    assert not list(all_datasets(fewer, 1))
    again = fewer[fewer["dataset"] == "t4"].assign(track="t4 (900 training texts)")
    assert not list(all_datasets(pd.concat([fewer, again]), 1)), "two training sizes are not two datasets"


def test_tracks_of_one_data_set_are_averaged_before_the_tests_over_data_sets():
    """On every dataset A is ahead of B by 0.1 with few texts, and behind by 0.3 with many: B is the better one in the mean."""
    ahead = {"few": {"A": 0.7, "B": 0.6, "C": 0.1}, "many": {"A": 0.6, "B": 0.9, "C": 0.1}}
    rows = [
        {"track": f"t{i} {size}", "dataset": f"t{i}", "name": name, "accuracy": accuracy - i / 1000}
        for i in range(10)
        for size, each in ahead.items()
        for name, accuracy in each.items()
    ]
    (found,) = all_datasets(pd.DataFrame(rows).assign(f1_macro=np.nan), 1)
    assert "Over 10 datasets" in found.caption
    assert "B  1.00" in found.drawing.svg and "A  2.00" in found.drawing.svg


def test_bars_join_runs_without_a_separated_pair():
    """Order a b c d; a-c, a-d and b-d are separated: a-b, b-c and c-d are joined. With none separated one bar."""
    p = np.ones((4, 4))
    assert joined_ranges(p) == [(0, 3)]
    for i, j in ((0, 2), (0, 3), (1, 3)):
        p[i, j] = p[j, i] = 0.01
    assert joined_ranges(p) == [(0, 1), (1, 2), (2, 3)]
    assert joined_ranges(np.eye(3)) == []


def test_the_rank_probabilities_are_a_table():
    held = stability("ab", [2.0, 1.0], [[2, 1], [2, 1], [2, 1], [1, 2]])
    table = rank_probabilities(Robustness("t", "a", held, None, Weights()))
    assert table.to_dict("records") == [
        {"Model": "a", "Expected rank": "1.2", "1": "75", "2": "25"},
        {"Model": "b", "Expected rank": "1.8", "1": "25", "2": "75"},
    ]
