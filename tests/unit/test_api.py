"""What the Python interface allows is what the commands allow."""

from typing import get_args, get_type_hints

import pytest
from toy_store import write_toy_store

from moodbench import api
from moodbench.statistics.composite import COMPOSITES


def test_the_leaderboard_takes_every_composite_of_the_command():
    assert get_args(get_type_hints(api.leaderboard)["composite"]) == tuple(COMPOSITES)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_each_composite_gives_a_board(tmp_path, composite):
    write_toy_store(tmp_path / "results")
    board = api.leaderboard(tmp_path / "results", composite=composite)
    assert len(board) == 1
