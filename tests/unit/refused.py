"""A command that must be refused, as several tests run it."""

import pytest

from moodbench.cli import main


def fail(arguments, capsys) -> str:
    """The message of a command that must end with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed
    assert "Traceback" not in printed.err
    assert printed.out == ""
    return printed.err
