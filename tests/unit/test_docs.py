"""What the documents say is true: commands exist, links lead somewhere, the tree is the tree."""

import re
from pathlib import Path

import pytest

from moodbench.cli import main
from moodbench.cli.commands import COMMANDS, GROUPS, parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "results" / "README.md", ROOT / "cluster" / "README.md",
             *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip
README = (ROOT / "README.md").read_text()


def subparsers(of):
    return next((each.choices for each in of._actions if isinstance(each.choices, dict)), {})


def command_names() -> list[str]:
    return list(subparsers(parser()))


def actions() -> list[str]:
    """Commands with an action, such as `store verify`; `recipes list` is the default of `recipes`."""
    found = [f"{name} {action}" for name, command in subparsers(parser()).items() for action in subparsers(command)]
    return [each for each in found if each != "recipes list"]


def commands_in(text: str) -> list[list[str]]:
    """The arguments of every `moodbench ...` line in the code blocks of a document."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [m.group(1).split() for line in lines if (m := re.match(r"(?:\$ )?(?:uv run )?moodbench (.+)", line))]


@pytest.mark.parametrize("name", command_names())
def test_each_command_has_help_and_stands_in_the_readme(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([name, "--help"])
    assert ended.value.code == 0
    assert "usage: moodbench" in capsys.readouterr().out
    assert f"moodbench {name}" in README


@pytest.mark.parametrize("name", actions())
def test_each_action_has_help_and_stands_in_a_document(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: moodbench {name}" in capsys.readouterr().out
    assert any(f"moodbench {name}" in document.read_text() for document in DOCUMENTS)


def test_the_help_shows_each_command_in_its_group():
    shown = parser("run").format_help()
    for title, group in GROUPS.items():
        lines = shown.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split(maxsplit=1) for line in lines] == [[name, command.help] for name, command in group.items()]


def test_there_are_as_many_commands_as_modules_register():
    assert len(command_names()) == len(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_line_in_a_document_is_accepted(document):
    for arguments in commands_in(document.read_text()):
        parser().parse_args(arguments)


def test_the_readme_shows_command_lines_at_all():
    assert ["run", "quickstart"] in commands_in(README)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_resolve(document):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_tree_in_the_readme_is_the_tree():
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", README, flags=re.DOTALL).group(1)
    shown, folders = set(), []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name = line.strip().split()[0]
        folders = [*folders[:depth], name]
        shown.add("/".join(part.strip("/") for part in folders))
    for path in shown:
        assert (ROOT / path).exists(), path
    package = ROOT / "moodbench"
    modules = {
        p.relative_to(ROOT).as_posix()
        for p in package.iterdir()
        if p.name != "__main__.py" and (p.is_file() or (p / "__init__.py").exists())
    }
    assert modules <= shown, modules - shown


def test_the_readmes_test_command_is_what_ci_calls():
    assert "uv run pytest" in README
    assert re.search(r'step "tests";\s+uv run pytest$', (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)


def test_the_generated_documents_are_current(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "guide", "--output", str(tmp_path)])
    assert ended.value.code == 0
    for name in ("MODEL_CONFIGURATION.md", "QUICK_REFERENCE.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), (
            f"run `moodbench catalogue guide` for {name}"
        )


def test_the_model_guide_says_where_the_largest_models_fit():
    rows = {}
    for line in (ROOT / "docs" / "MODEL_CONFIGURATION.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 12:
            rows[cells[0]] = cells
    # Column 8 is a card of 10 GiB, 10 a Mac of 16 GB: 3.7 billion weights are 6.9 GiB in 16 bit and 13.9 in fp32; beside
    # 6.9 GiB, 10 have too little for 32 texts.
    assert rows["Phi-3-mini"][7] == "QLoRA (nf4)" and rows["Phi-3-mini"][9] == "no"
    assert rows["BERT-base"][7] == rows["BERT-base"][9] == "as it is"
    assert rows["BERT-base"][2] == "109M" and rows["Phi-3-mini"][2] == "3.72B"
