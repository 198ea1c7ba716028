"""Calibration as command, report and page show it, on the toy store whose figures are worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from sklearn.metrics import log_loss
from toy_store import EVALUATION_ID, LOGITS, TEST_LABELS, toy_fit, write_toy_store, write_toy_trial

from moodbench.analysis.calibration import calibration_of
from moodbench.cli import main
from moodbench.report import figures
from moodbench.report.charts import draw_panels
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.tables import CALIBRATION_HEADINGS, calibration_cells, calibration_notes

VALIDATION = [[2.0, 0.0], [1.0, 0.0]]
"""Labels 0 and 1: right with log odds 2, wrong with log odds 1."""


def probabilities(logits, temperature=1.0):
    powers = np.exp(np.array(logits) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_temperature_comes_from_validation_texts_and_is_tried_on_test_texts(tmp_path):
    store = write_toy_store(tmp_path, validation_logits=VALIDATION)
    found = calibration_of(store, "toy", [EVALUATION_ID])
    (seed,) = found.seeds
    # the slope of log(1 + exp(-2 b)) + log(1 + exp(b)) is 0 at the best b = 1 / T
    best = brentq(lambda b: 1 / (1 + np.exp(-b)) - 2 / (1 + np.exp(2 * b)), 0.01, 5)
    assert seed.temperature.value == pytest.approx(1 / best, rel=1e-4)
    assert seed.temperature.num_texts == 2
    assert seed.before.nll == pytest.approx(log_loss(TEST_LABELS, probabilities(LOGITS)))
    assert seed.after.nll == pytest.approx(log_loss(TEST_LABELS, probabilities(LOGITS, 1 / best)), rel=1e-4)
    (cells,) = calibration_cells([found])
    shown = dict(zip(CALIBRATION_HEADINGS, cells, strict=True))
    assert shown["NLL"] == f"{log_loss(TEST_LABELS, probabilities(LOGITS)):.3f}"
    assert shown["T"] == f"{1 / best:.2f}"
    assert len(calibration_notes([found])) == 1


def test_a_store_without_validation_predictions_says_why_there_is_no_temperature(tmp_path):
    store = write_toy_store(tmp_path)
    found = calibration_of(store, "toy", [EVALUATION_ID])
    (cells,) = calibration_cells([found])
    assert cells[-4:] == ["—"] * 4
    assert "—" not in cells[:-4]
    assert calibration_notes([found])[1].startswith("toy: no temperature: evaluated before")
    assert found.to_record()["seeds"][0]["temperature"] is None


def test_compare_and_report_give_the_same_figures(tmp_path, capsys):
    store = write_toy_store(tmp_path / "store", validation_logits=VALIDATION)
    second = "e1" + "1" * 18
    write_toy_trial(store, toy_fit("other"), second, "c1" + "1" * 18, VALIDATION)
    for arguments in (["compare", "toy", "other", "--json"], ["report", "--output", str(tmp_path / "out")]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--store", store.uri])
        assert ended.value.code == 0
        if arguments[0] == "compare":
            (compared,) = json.loads(capsys.readouterr().out)
    toy, other = compared["calibration"]
    assert toy["seeds"] == other["seeds"]  # the same logits
    written = {r["name"]: r for r in json.loads((tmp_path / "out" / "calibration.json").read_text())}
    assert written["toy"]["seeds"] == toy["seeds"]
    table = pd.read_csv(tmp_path / "out" / "calibration.csv").set_index("name")
    assert table.loc["toy", "after_nll"] == pytest.approx(toy["seeds"][0]["after"]["nll"])
    assert table.loc["toy", "ece_null_p_value"] == toy["seeds"][0]["ece_null"]["p_value"]
    parts = table.loc["toy", ["brier_miscalibration", "brier_uncertainty", "brier_discrimination"]]
    assert table.loc["toy", "brier"] == pytest.approx(parts.iloc[0] + parts.iloc[1] - parts.iloc[2])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h3>Calibration</h3>" in page
    with pytest.raises(SystemExit):
        main(["compare", "toy", "other", "--store", store.uri])
    said = capsys.readouterr().out
    assert "ECE % after" in said
    assert "MCB - DSC + UNC" in said


def test_the_diagrams_show_the_line_and_its_band_of_every_entry(tmp_path):
    store = write_toy_store(tmp_path)
    curve = calibration_of(store, "toy", [EVALUATION_ID]).curve
    diagonal, *drawn = plotly_figure(figures.reliability({"a": curve, "b": curve})).data
    bands, lines = drawn[::2], drawn[1::2]
    assert [line.name for line in lines] == ["a", "b"]
    assert list(lines[0].y) == pytest.approx(100 * curve.right)
    assert list(bands[0].y) == pytest.approx([*(100 * curve.low), *(100 * curve.high[::-1])])
    assert list(diagonal.x) == list(diagonal.y)
    svg = draw_panels(figures.reliability({"a": curve, "b <c>": curve}), "r", "Reliability").svg
    assert svg.count("b &lt;c&gt;") == 1
    assert "stated probability" in svg
