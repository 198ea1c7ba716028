"""What `moodbench export-model` refuses: entries that are no transformer, and folders that are not empty."""

from pathlib import Path

import pytest
from refused import fail

from moodbench.errors import UsageError

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize("model", ["majority"])
def test_an_entry_without_a_transformers_class_is_not_exported(model, majority_store, capsys):
    message = fail(["export-model", model, "out"], capsys)
    assert "is a classical baseline and no transformer" in message and "moodbench predict --model" in message
    assert not Path("out").exists()


def test_only_an_empty_folder_is_exported_to():
    from moodbench.serving.export import check_free

    Path("full").mkdir()
    Path("full/thesis.tex").write_text("")
    Path("file").write_text("")
    Path("empty").mkdir()
    check_free(Path("empty"))
    check_free(Path("absent"))
    with pytest.raises(UsageError, match=r"full: is not empty \(it holds thesis.tex\)"):
        check_free(Path("full"))
    with pytest.raises(UsageError, match="file: is a file"):
        check_free(Path("file"))
