import pytest
from fitted_majority import commit_fit

from moodbench.store import Store


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def majority_store(empty_folder) -> Store:
    """A store in results/ of an empty working directory, with one fitted majority baseline."""
    made = Store.open("results")
    commit_fit(made, "majority")
    return made
