"""Excel workbooks as data: the first sheet is read as the same table in CSV is, and what is damaged is refused."""

import datetime
import io
import json
import random
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import openpyxl
import pytest
from own_files import N, load, parquet, rows, sentence, source, table
from refused import fail

from moodbench.cli import main
from moodbench.data import workbook
from moodbench.data.own import load_own
from moodbench.errors import DataError
from moodbench.serving.texts import read_texts

pytestmark = pytest.mark.usefixtures("empty_folder")

TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
ODD = [
    f"{sentence(0)}, with a comma", f'{sentence(1)} said "wow"', f"{sentence(2)}\nand a line\n\nmore", f"{sentence(3)} Größe 👍 <b>",
    f"{sentence(4)};semi|bar\ttab", *(sentence(i) for i in range(5, N)),
]  # fmt: skip
LINES = [("text", "label"), *((t, lb) for t, (_, lb) in zip(ODD, rows(), strict=True))]


def inline(cell, reference):
    return f'<c r="{reference}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'


def sheet(lines, cell=inline):
    """A sheet as Excel writes it: cells with their place, and none where there is no value."""
    found = "".join(
        f'<row r="{number}">'
        + "".join(cell(value, f"{chr(ord('A') + i)}{number}") for i, value in enumerate(line) if value != "")
        + "</row>"
        for number, line in enumerate(lines, 1)
        if any(line)
    )
    return f'<?xml version="1.0"?><worksheet xmlns="{MAIN}"><sheetData>{found}</sheetData></worksheet>'


def book(first, *others, strings=None, names=("Reviews", "Notes", "Old"), kind=f"{SPREADSHEET}.sheet.main+xml"):
    """The bytes of a workbook, written by hand, whose parts are not in the order of its sheets."""
    sheets = [first, *others]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        parts = {"/xl/workbook.xml": kind} | (
            {"/xl/sharedStrings.xml": f"{SPREADSHEET}.sharedStrings+xml"} if strings else {}
        )
        override = "".join(f'<Override PartName="{part}" ContentType="{type_}"/>' for part, type_ in parts.items())
        file.writestr("[Content_Types].xml", f'<Types xmlns="{TYPES}">{override}</Types>')
        listed = "".join(f'<sheet name="{names[i]}" sheetId="{i + 1}" r:id="rId{9 - i}"/>' for i in range(len(sheets)))
        file.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{MAIN}" xmlns:r="{LINKS}"><sheets>{listed}</sheets></workbook>'
        )
        linked = "".join(
            f'<Relationship Id="rId{9 - i}" Type="{LINKS}/worksheet" Target="worksheets/sheet{9 - i}.xml"/>'
            for i in range(len(sheets))
        )
        file.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{PACKAGE}">{linked}</Relationships>')
        for i, each in enumerate(sheets):
            file.writestr(f"xl/worksheets/sheet{9 - i}.xml", each)
        if strings:
            file.writestr("xl/sharedStrings.xml", f'<sst xmlns="{MAIN}">{strings}</sst>')
    return out.getvalue()


def written(*sheets, change=None):
    """The bytes of a workbook, written by openpyxl."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for i, lines in enumerate(sheets):
        tab = made.create_sheet(f"Tab {i + 1}")
        for line in lines:
            tab.append(line)
    if change:
        change(made)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def texts(name, content, column=None):
    Path(name).write_bytes(content)
    return [text for chunk in read_texts(name, column) for text in chunk]


@pytest.mark.parametrize("make", [lambda: book(sheet(LINES)), lambda: written(LINES)], ids=["by hand", "openpyxl"])
@pytest.mark.parametrize("name", ["a.xlsx", "a.XLSM", "saved-as.csv"])
def test_a_workbook_gives_what_its_table_in_csv_gives_whatever_its_name(name, make):
    data, same = load(name, make()), load("b.csv", table(LINES[1:]))
    assert set(data.frame["text"]) == set(ODD)
    assert data.frame.equals(same.frame)
    assert (data.reading.format, data.reading.separator, data.reading.encoding) == ("Excel", None, None)
    assert not data.reading.warnings


def test_a_workbook_with_macros_is_read():
    kind = "application/vnd.ms-excel.sheet.macroEnabled.main+xml"
    assert len(load("a.xlsm", book(sheet(LINES), kind=kind)).frame) == N


def test_shared_strings_with_runs_phonetic_guides_and_escapes_are_read():
    strings = "".join(
        f"<si><r><t>{t[:5]}</t></r><r><rPr><b/></rPr><t>{t[5:]}_x000D_end_x0007_</t></r><rPh sb='0' eb='1'><t>guide</t></rPh></si>"
        for t in map(sentence, range(N))
    )

    def cell(value, reference):
        if reference in ("A1", "B1"):
            return f'<c r="{reference}" t="str"><v>{value}</v></c>'
        if reference.startswith("A"):
            return f'<c r="{reference}" t="s"><v>{int(reference[1:]) - 2}</v></c>'
        return f'<c r="{reference}"><f>1+1</f><v>{value}</v></c>'

    lines = [("text", "label"), *((sentence(i), 1 + 4 * (i % 2)) for i in range(N))]
    data = load("a.xlsx", book(sheet(lines, cell), strings=strings))
    assert data.labels == ("1", "5")
    assert set(data.frame["text"]) == {f"{sentence(i)}\rend" for i in range(N)}  # white space at the ends is cut


def test_values_are_the_text_that_a_person_sees():
    day, hour = datetime.datetime(2024, 3, 1), datetime.datetime(2024, 3, 1, 14, 30)
    shown = {
        4.0: "4", 4.5: "4.5", 0.1 + 0.2: "0.3", -12: "-12", 10**12: "1000000000000", True: "TRUE", day: "2024-03-01",
        hour: "2024-03-01 14:30:00", datetime.time(9, 5): "09:05:00", "007": "007", " a ": " a ", "#N/A": "", "#DIV/0!": "", None: "",
    }  # fmt: skip
    assert texts("a.xlsx", written([("text", "n"), *((value, "x") for value in shown)])) == list(shown.values())


def test_numbers_dates_and_truth_are_labels():
    for first, second, labels in ((1.0, 5, ("1", "5")), (False, True, ("FALSE", "TRUE")), (4.5, 2.5, ("2.5", "4.5"))):
        lines = [("text", "label"), *((sentence(i), (first, second)[i % 2]) for i in range(N))]
        assert load("a.xlsx", written(lines)).labels == labels


def test_empty_cells_and_rows_and_a_title_keep_every_value_in_its_column():
    lines = [("Reviews of 2024",), (), ("id", "text", "label"),
             *((str(i) if i % 3 else None, t, lb) for i, (t, lb) in enumerate(rows())), (), ("9", None, "positive"),
             ("id", "text", "label"), ("10", "#N/A", "positive"), ("11", "more of it", "#N/A"), (), ()]  # fmt: skip
    data = load("a.xlsx", written(lines))
    assert len(data.frame) == N
    assert {why: count for why, count in data.reading.dropped.items() if count} == {
        "without text": 2,
        "without label": 1,
        "that repeat the header": 1,
    }
    assert "1 row before the header (row 3 of the sheet) were left out" in data.reading.warnings


def test_predict_has_a_row_for_each_row_up_to_the_last_with_a_value(majority_store, capsys):
    lines = [("id", "text"), (1, "good"), (2, None), (), (), (3, 10), (4, "bad"), (None, None)]

    def change(made):
        made["Tab 1"]["A4000"].font = openpyxl.styles.Font(bold=True)
        made["Tab 1"]["D3"] = "a note beside the table"

    assert texts("new.xlsx", written(lines, change=change)) == ["good", "", "", "", "10", "bad"]
    assert texts("one.xlsx", written([("review",), ("good",), ("bad",)])) == ["good", "bad"]
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--model", "majority", "--input", "new.xlsx", "--output", "out.jsonl"])
    assert "4 of 6 rows have no text" in capsys.readouterr().err
    labels = [json.loads(line)["label"] for line in Path("out.jsonl").read_text().splitlines()]
    assert [label is not None for label in labels] == [True, False, False, False, False, True]


def test_the_first_visible_sheet_is_read_and_others_are_named(caplog):
    def hide(made):
        made["Tab 1"].sheet_state = "hidden"

    content = written([("nothing",)], LINES, [("else",)], change=hide)
    said = "the first sheet, 'Tab 2', was read; the workbook also has 'Tab 3', 'Tab 1'"
    data = load("a.xlsx", content)
    assert len(data.frame) == N and said in data.reading.warnings
    assert texts("a.xlsx", content) == ODD
    assert f"a.xlsx: {said}" in caplog.text
    with pytest.raises(DataError, match=r"a.xlsx: sheet 'Tab 1': no text column 'text': its columns are 'cover'"):
        load("a.xlsx", written([("cover",)], LINES))


def test_merged_cells_have_their_value_in_the_first(caplog):
    def merge(made):
        made["Tab 1"].merge_cells("A1:B1")
        made["Tab 1"].merge_cells("B3:B4")

    content = written([("Title", None), *LINES], change=merge)
    data = load("a.xlsx", content)
    assert len(data.frame) == N - 1 and data.reading.dropped["without label"] == 1


def test_rows_are_named_by_their_number_in_excel():
    lines = [("Title",), (), *LINES[:9], ("one more", "meh")]
    with pytest.raises(DataError, match="row 12 of the sheet: column 'label': 'meh'"):
        load("a.xlsx", written(lines), labels=("negative", "positive"))


def test_several_workbooks_are_one_table():
    for i in range(3):
        Path(f"part{i}.xlsx").write_bytes(written([LINES[0], *LINES[1 + i * 50 : 51 + i * 50]]))
    assert set(load_own("mine", source("part*.xlsx")).frame["text"]) == set(ODD)
    Path("part1.xlsx").write_bytes(written([LINES[0], ("a", "meh")]))
    with pytest.raises(DataError, match=r"part1.xlsx: row 2 of the sheet: column 'label': 'meh'"):
        load_own("mine", source("part*.xlsx", labels=("negative", "positive")))


def test_a_formula_without_a_stored_value_is_named_and_one_with_an_empty_text_is_not():
    lines = [*LINES[:7], (f"{sentence(990)}", "=IF(1,B2)"), *LINES[7:]]
    with pytest.raises(DataError) as told:
        load("a.xlsx", written(lines))
    assert "a.xlsx: row 8 of the sheet: column 'label': the formula has no stored value; open it in Excel" in str(
        told.value
    )
    with pytest.raises(DataError, match="row 3 of the sheet: column 'text': the formula has no stored value"):
        texts("a.xlsx", written([("text", "n"), ("good", 1), ("=A2", 2)]))

    def cell(value, reference):
        return f'<c r="{reference}" t="str"><f>IF(1,"")</f><v></v></c>' if value == "=" else inline(value, reference)

    assert texts("b.xlsx", book(sheet([("text", "n"), ("good", "1"), ("=", "2"), ("bad", "3")], cell))) == [
        "good",
        "",
        "bad",
    ]


def cut(content):
    return content[: len(content) * 2 // 3]


def changed(part, before, after):
    """A workbook in which a part has `after` in place of `before`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book(sheet(LINES)))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(before, after) if name == part else content)
    return out.getvalue()


def encrypted():
    """A workbook of which each part has the flag of encryption."""
    content = bytearray(book(sheet(LINES)))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(magic)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(magic, at + 4)
    return bytes(content)


SHEET = "xl/worksheets/sheet9.xml"
DAMAGED = {
    "cut": (cut(book(sheet(LINES))), "is a damaged Excel workbook, or another Office document than .xlsx"),
    "no XML": (book("<worksheet><sheetData><row>"), "is an Excel workbook that cannot be read (ParseError"),
    "a sheet that is not there": (changed("xl/_rels/workbook.xml.rels", b"sheet9", b"sheetX"), "without a sheet that can be read"),
    "a link that is not there": (changed("xl/workbook.xml", b"rId9", b"rId8"), "is an Excel workbook that cannot be read (KeyError"),
    "no sheets": (changed("xl/workbook.xml", b'<sheet name="Reviews" sheetId="1" r:id="rId9"/>', b""), "without a sheet that can be read"),
    "a column outside": (changed(SHEET, b'r="B3"', b'r="ZZZZ3"'), "is an Excel workbook that cannot be read (ValueError"),
    "a string that is not there": (changed(SHEET, b't="inlineStr"><is>', b't="s"><v>7</v><is>'), "cannot be read (IndexError"),
    "no number": (changed(SHEET, b't="inlineStr"><is>', b"><v>seven</v><is>"), "cannot be read (ValueError"),
    "encrypted parts": (encrypted(), "is a damaged Excel workbook, or another Office document"),
    "nothing": (book(sheet([])), "its first sheet, 'Reviews', has no cell that can be read; expected a header and rows: open it"),
    "a header alone": (book(sheet(LINES[:1])), "a header but no rows"),
    "strict XML": (changed(SHEET, MAIN.encode(), b"http://purl.oclc.org/ooxml/spreadsheetml/main"), "has no cell that can be read; expected a header"),
    "an entity that grows": (
        changed(SHEET, b"<worksheet", b'<!DOCTYPE x [<!ENTITY a0 "' + b"ha" * 500 + b'">'
                + b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 100) for i in range(1, 7)) + b"]><worksheet><x>&a6;</x></worksheet><worksheet"),
        "is an Excel workbook that cannot be read (ParseError",
    ),
    "text": (table(LINES[1:]), "a.xlsx: is named .xlsx, but is no Excel workbook; rename it to say what it is"),
    "JSON": (b'{"text": "a"}', "a.xlsx: is named .xlsx, but is no Excel workbook"),
    "Parquet": (parquet(text=["a"]), "a.xlsx: is named .xlsx, but is no Excel workbook"),
    "OLE": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "is an Excel workbook that is encrypted or of the format .xls; remove its password"),
    "binary workbook": (book(sheet(LINES), kind="application/vnd.ms-excel.sheet.binary.macroEnabled.main"), "another Office document than .xlsx"),
    "document": (book(sheet(LINES), kind="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"), "another Office document"),
    "empty": (b"", "a.xlsx: the file is empty (0 bytes); expected Excel"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "what"), DAMAGED.values(), ids=list(DAMAGED))
def test_what_is_no_readable_workbook_is_refused(content, what):
    for read in (load, texts):
        with pytest.raises(DataError) as told:
            read("a.xlsx", content)
        assert what in str(told.value) or "a.xlsx: holds no text" in str(told.value)


def test_a_row_outside_a_sheet_is_refused(monkeypatch):
    assert workbook.MAX_ROWS == 2**20
    monkeypatch.setattr(workbook, "MAX_ROWS", 200)
    with pytest.raises(DataError, match=r"row 201 of the sheet: it can have 200 rows; open it"):
        load("a.xlsx", changed(SHEET, b'<row r="9"', b'<row r="99999999999"'))


def test_a_zip_archive_that_is_no_workbook_is_named():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("reviews.csv", "text,label\n")
    with pytest.raises(DataError, match=r"is a zip archive; `unzip a.xlsx`, and give the file in it"):
        load("a.xlsx", out.getvalue())


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(workbook, "MAX_BYTES", 1_000)
    for read in (load, texts):
        with pytest.raises(DataError, match=r"bytes unpacked, at most 1,000 are read; save its sheet as 'CSV UTF-8'"):
            read("a.xlsx", book(sheet(LINES)))


def test_an_archive_that_lies_about_its_size_is_not_unpacked():
    content = bytearray(book(f"<worksheet>{' ' * 10**8}</worksheet>"))
    at = content.find(b"PK\x01\x02")
    while not content[at + 46 :].startswith(SHEET.encode()):
        at = content.find(b"PK\x01\x02", at + 4)
    content[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(DataError, match="cannot be read"):
        load("a.xlsx", bytes(content))


def test_a_cell_that_is_too_long_is_named(monkeypatch):
    assert texts("a.xlsx", book(sheet([("text", "n"), ("x" * 100_000, "1")]))) == ["x" * 100_000]
    monkeypatch.setattr(workbook, "LONGEST_BYTES", 2**20)
    with pytest.raises(DataError, match=r"row 2 of the sheet: a cell is longer than 1 MiB"):
        texts("a.xlsx", book(sheet([("text", "n"), ("x" * 2**21, "1")])))


@pytest.mark.parametrize("seed", range(5))
def test_bytes_changed_by_chance_are_read_or_refused(seed):
    rng = random.Random(seed)
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written(LINES[:20]))) as old, zipfile.ZipFile(stored, "w") as new:
        for name in old.namelist():
            content = bytearray(old.read(name))
            if rng.random() < 0.5:
                for _ in range(rng.choice((1, 3))):
                    content[rng.randrange(len(content))] = rng.choice(b'<>/"=09azA& ')
            new.writestr(name, bytes(content))
    for _ in range(20):
        content = bytearray(stored.getvalue())
        for _ in range(rng.randrange(3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            texts("a.xlsx", bytes(content), "text")
        except DataError as error:
            assert str(error).startswith("a.xlsx: ")


def test_the_command_refuses_a_damaged_workbook(capsys):
    Path("a.xlsx").write_bytes(DAMAGED["no XML"][0])
    said = fail(
        ["plan", "--models", "vader", "--data", "a.xlsx", "--text-column", "text", "--label-column", "label"], capsys
    )
    assert "a.xlsx: is an Excel workbook that cannot be read (ParseError" in said
