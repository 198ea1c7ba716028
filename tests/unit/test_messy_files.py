"""Files as people have them: mixed encodings, odd labels, quotes, headers, containers; what is read and what is said."""

import csv
import gzip
import io
import time
from pathlib import Path

import pytest
from own_files import N, json_lines, load, parquet, rows, sentence, source, table

from moodbench.benchmark.data_report import data_report
from moodbench.data.labels import label_text
from moodbench.data.near_duplicates import find_clusters
from moodbench.data.own import load_own
from moodbench.errors import DataError, PrerequisiteError

pytestmark = pytest.mark.usefixtures("empty_folder")

TWO = ("negative", "positive")


def texts_of(data):
    return set(data.frame["text"])


def warned(data):
    return " | ".join(data.reading.warnings)


def refused(name, content, **options):
    with pytest.raises(DataError) as told:
        load(name, content, **options)
    return str(told.value)


# Encodings

UTF8 = [(f"{text} – Größe, café 👍", label) for text, label in rows()]


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        (b"I don\x92t like it,negative\r\n", "I don’t like it"),
        ("été à Größe,negative\r\n".encode("latin-1"), "été à Größe"),
        ("Größe".encode() + b" caf\xe9 \x81,negative\r\n", "Größe café \x81"),
        (b"cut in the middle \xe2\x80,negative\r\n", "cut in the middle â€"),
    ],
)
def test_one_line_of_another_encoding_garbles_no_other(odd, read):
    content = table(UTF8)
    data = load(
        "a.csv",
        content[: len(content) // 2].rpartition(b"\n")[0] + b"\n" + odd + table(UTF8[N // 2 :]).partition(b"\n")[2],
    )
    assert read in texts_of(data)
    assert texts_of(data) - {read} <= {text for text, _ in UTF8}
    assert data.reading.encoding == "utf-8"
    assert "is not valid UTF-8 in a file of UTF-8; the odd bytes were read as cp1252" in warned(data)


def test_two_halves_in_two_encodings_are_both_read():
    halves = table(UTF8[:75]) + table([(f"{t} café", lb) for t, lb in rows()[75:]])[12:].decode().encode("cp1252")
    data = load("a.csv", halves)
    assert texts_of(data) == {t for t, _ in UTF8[:75]} | {f"{t} café" for t, _ in rows()[75:]}
    assert "75 lines are not valid UTF-8 in a file of UTF-8 (the first is line 77)" in warned(data)


def test_letters_of_cp1252_that_look_like_utf8_by_chance_stay_letters():
    data = load(
        "a.csv",
        table([("«CAFÉ» très cher", "negative"), *((f"{t} é", lb) for t, lb in rows())]).decode().encode("cp1252"),
    )
    assert "«CAFÉ» très cher" in texts_of(data)
    assert data.reading.encoding == "cp1252"


# Labels


@pytest.mark.parametrize(
    ("cell", "text"),
    [("★★★★☆", "4"), ("⭐⭐⭐", "3"), ("⭐️⭐️", "2"), ("★ ★ ☆ ☆ ☆", "2"), ("★★★½☆", "3.5"), ("4.0 out of 5 stars", "4"),
     ("1.0 out of 5", "1"), ("4/5", "4"), ("5 / 5", "5"), ("4,0 von 5 Sternen", "4"), ("1 star", "1"), ("5 Stars", "5"),
     ("5-star", "5"), ("Five stars", "5"), ("4★", "4"), ("5,0", "5"), ("4,5", "4.5"), ("-1,0", "-1"), ("1,000", "1,000"),
     ("8/10", "8/10"), ("very  good", "very good"), ("\u200bgood\u00a0", "good"), ("starry", "starry")],
)  # fmt: skip
def test_stars_and_decimal_commas_are_numbers(cell, text):
    assert label_text(cell) == text


@pytest.mark.parametrize("form", ["{}.0 out of 5 stars", "{}/5", "{},0", "{} stars"])
def test_ratings_keep_their_order_and_maps_of_numbers_fit(form):
    lines = [(t, form.format(s)) for t, s in rows(("5", "1", "3", "2", "4"), 300)]
    data = load("a.csv", table(lines))
    assert data.labels == ("1", "2", "3", "4", "5")
    assert sorted(data.frame["stars"].unique()) == [1, 2, 3, 4, 5]
    mapped = load("a.csv", table(lines), label_map={"1": "bad", "2": "bad", "3": "drop", "4": "good", "5": "good"})
    assert mapped.labels == ("bad", "good") and mapped.reading.dropped["by the label map"] == 60


def test_five_filled_stars_are_the_positive_class():
    data = load("a.csv", table(rows(("★★★★★", "★☆☆☆☆"))))
    assert data.labels == ("1", "5") and not data.reading.warnings


def test_shares_of_ten_are_in_order():
    assert load("a.csv", table(rows(("10/10", "2/10")))).labels == ("2/10", "10/10")


def test_labels_that_differ_in_case_are_one_class_and_it_is_said():
    lines = [
        (t, (lb, lb.title(), f"{lb.upper()} ")[i // 2 % 8 % 3 if i % 16 < 6 else 0]) for i, (t, lb) in enumerate(rows())
    ]
    data = load("a.csv", table(lines))
    assert data.labels == TWO and len(data.frame) == N
    assert "labels that differ only in case or spaces are one class: 'NEGATIVE' (" in warned(data)
    mapped = load("a.csv", table(lines), label_map={"positive": "good", "negative": "bad"})
    assert mapped.labels == ("bad", "good") and len(mapped.frame) == N
    named = load("a.csv", table(lines), labels=("Positive", "Negative"))
    assert named.labels == ("Positive", "Negative") and len(named.frame) == N


@pytest.mark.parametrize("value", ["N/A", "nan", "NULL", "None", "#N/A", "<NA>"])
def test_a_written_missing_label_is_no_class(value):
    data = load("a.csv", table([*rows(), *((f"{sentence(i)} more", value) for i in range(50))]))
    assert data.labels == TWO and data.reading.dropped["without label"] == 50
    assert f"rows labelled '{value}' (50) count as rows without a label" in warned(data)
    kept = load("a.csv", table([*rows(), *((f"{sentence(i)} more", value) for i in range(150, 250))]),
                label_map={"negative": "negative", "positive": "positive", value: "neutral"})  # fmt: skip
    assert set(kept.labels) == {*TWO, "neutral"}


def test_missing_groups_and_ids_are_not_one_group_and_one_row():
    lines = [(*r, "N/A" if i % 2 else f"g{i}", "nan") for i, r in enumerate(rows())]
    data = load("a.csv", table(lines, header=("text", "label", "shop", "id")), group_column="shop", id_column="id")
    assert len(data.frame) == N and data.reading.num_groups == N // 2


# Separators and headers

EXCEL = "\ufeffsep=;\r\ntext;label;;;\r\n" + "".join(f'"{t}, ok";{s},0;;;\r\n' for t, s in rows(("1", "5")))
SHORT = "id,text,label,reply\n" + "".join(
    f"{i},{t},{lb}{',thanks' if i % 3 else ''}\n" for i, (t, lb) in enumerate(rows())
)
PLAIN = table(rows()).decode().replace("\r\n", "\n")
READ = {
    "a separator line": (EXCEL, ("1", "5"), ""),
    "a separator line for tabs": ("sep=\t\n" + PLAIN.replace(",", "\t"), TWO, ""),
    "short rows": (SHORT, TWO, ""),
    "invisible characters round names": (PLAIN.replace("text,label", "\u200btext\u00a0, label\ufeff "), TWO, ""),
    "line ends of old Macs": (PLAIN.replace("\n", "\r"), TWO, ""),
    "a title": ("Export of reviews, 2024-01-01\n\n" + PLAIN, TWO, "1 row before the header (line 3) were left out"),
    "a long title": ("Reviews\nof,2024,by,shop\n" + PLAIN, TWO, "2 rows before the header"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_spreadsheets_put_round_a_table_is_read(case):
    content, labels, note = READ[case]
    data = load("a.csv", content.encode())
    assert data.labels == labels and len(data.frame) == N
    assert note in warned(data)


def test_repeated_headers_are_left_out_and_counted():
    lines = PLAIN.splitlines(keepends=True)
    data = load("a.csv", "".join([*lines[:50], lines[0], *lines[50:], lines[0]]).encode())
    assert data.labels == TWO and len(data.frame) == N
    assert data.reading.dropped["that repeat the header"] == 2
    assert data.reading.num_rows == N + 2


def test_a_row_without_its_last_cells_has_no_label():
    data = load("a.csv", (PLAIN + "a text alone\n").encode())
    assert data.reading.dropped["without label"] == 1


def test_a_totals_row_is_named_with_its_line():
    said = refused("a.csv", (PLAIN + "Total,160\n").encode())
    assert "has no text of class '160' (1 text in all, the first in row 151 (line 152))" in said


def test_names_that_differ_in_case_are_suggested():
    said = refused("a.csv", PLAIN.replace("text,label", "Text,LABEL").encode())
    assert "no text column 'text': did you mean 'Text'?" in said


def test_names_in_json_and_parquet_may_have_white_space_round_them():
    lines = rows()
    assert len(load("a.jsonl", json_lines({"\ufefftext ": t, "label\u200b": lb} for t, lb in lines)).frame) == N
    made = parquet(**{" text": [t for t, _ in lines], "label ": [lb for _, lb in lines]})
    assert len(load("a.parquet", made).frame) == N


# Quotes


def escaped(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


SAID = [(f'{t} said "wow, ok" in C:\\{i}', lb) for i, (t, lb) in enumerate(rows())]


def test_backslashes_before_quotes_are_read_and_said():
    content = "text,label\n" + "".join(f"{escaped(t)},{lb}\n" for t, lb in SAID)
    data = load("a.csv", content.encode())
    assert texts_of(data) == {t for t, _ in SAID}
    assert 'double quotes in cells are written \\" and were read as "' in warned(data)


def test_a_stray_quote_swallows_no_row_of_a_tsv():
    lines = [f"{t}, fine\t{lb}\n" for t, lb in rows()]
    lines[30] = '"' + lines[30]
    lines[120] = lines[120].replace("\t", ' 6"\t')
    data = load("a.tsv", ("text\tlabel\n" + "".join(lines)).encode())
    assert len(data.frame) == N
    assert {f'"{sentence(30)}, fine', f'{sentence(120)}, fine 6"'} <= texts_of(data)
    assert "each line is one row" in warned(data)


def test_a_stray_quote_in_a_csv_with_quoted_cells_is_read_and_said():
    lines = [f'"{t}, fine",{lb}\n' for t, lb in rows()]
    lines[30] = f'"Top" {sentence(30)},negative\n'
    data = load("a.csv", ("text,label\n" + "".join(lines)).encode())
    assert len(data.frame) == N and f"Top {sentence(30)}" in texts_of(data)
    assert "a quoted cell goes on after its closing quote" in warned(data)


def test_a_quote_that_runs_over_rows_of_a_csv_is_named_with_its_line():
    lines = [f"{t},{lb}\n" if 20 < i < 60 else f'"{t}, fine",{lb}\n' for i, (t, lb) in enumerate(rows())]
    lines[30] = '"' + lines[30]
    lines[40] = lines[40].replace(",", '",')
    said = refused("a.csv", ("text,label\n" + "".join(lines)).encode())
    assert "line 32: a double quote opens a cell that ends only in line 42" in said and "10 more rows" in said


def test_a_quote_that_never_closes_is_named_with_its_line():
    lines = [f'"{t}, fine",{lb}\n' for t, lb in rows()]
    lines[140] = lines[140].replace('fine"', "fine")
    assert "a.csv: line 14" in refused("a.csv", ("text,label\n" + "".join(lines)).encode())


def test_a_quote_that_never_closes_joins_no_two_rows():
    lines = [f'"{t}{", fine" if i % 2 else ""}",{lb}\n' for i, (t, lb) in enumerate(rows())]
    lines[140] = lines[140].replace('",', ",")
    assert "a.csv: line 142" in refused("a.csv", ("text,label\n" + "".join(lines)).encode())


def test_texts_with_line_breaks_commas_and_quotes_are_not_taken_for_rows():
    texts = [f"Hello {i},\nI like it, but\n\n- {sentence(i)}\nbye, bye" for i in range(N)]
    data = load("a.csv", table([(t, lb) for t, (_, lb) in zip(texts, rows(), strict=True)]))
    assert texts_of(data) == set(texts) and not data.reading.warnings
    tabbed = load("a.tsv", table([(t, lb) for t, (_, lb) in zip(texts, rows(), strict=True)], "\t"))
    assert texts_of(tabbed) == set(texts)


# Texts that are alike or contradict each other


def test_boilerplate_is_named_with_its_count_and_remedy():
    shared = " ".join(f"word{i}" for i in range(60))
    said = refused("a.csv", table([(f"{sentence(i).split()[0]} {shared}", lb) for i, (_, lb) in enumerate(rows())]))
    assert "150 texts are near-duplicates of each other" in said and "remove what they share" in said
    assert "give more rows" not in said


def test_few_rows_are_not_blamed_on_near_duplicates():
    said = refused("a.csv", table(rows(n=4)))
    assert "of 4 usable ones), needed are at least 20; give more rows" in said


@pytest.mark.parametrize("texts", [["good"], [sentence(i) for i in range(60)]])
def test_texts_that_all_have_two_labels_are_named(texts):
    said = refused("a.csv", table([(t, lb) for t in texts for lb in TWO]))
    assert f"every text occurs with contradicting labels ({2 * len(texts):,} rows), so none is left" in said


def test_mostly_contradicting_labels_are_named_instead_of_asking_for_rows():
    lines = [(sentence(i), lb) for i in range(100) for lb in TWO]
    said = refused("a.csv", table([*lines, *((f"{t} more", lb) for t, lb in rows(n=20))]))
    assert "200 of its 220 rows repeat a text with another label and were left out" in said


@pytest.mark.parametrize("unique", [True, False])
def test_the_search_for_near_duplicates_is_linear_on_boilerplate(unique):
    def seconds(n):
        shared = " ".join(f"word{i}" for i in range(40))
        texts = [f"{shared} item{i if unique else i % 50} seen{i % 7}" for i in range(n)]
        began = time.process_time()
        assert len(set(find_clusters(texts).ids.tolist())) == 1
        return time.process_time() - began

    assert seconds(20_000) < 10


# Rare classes


def test_a_class_with_few_test_texts_is_warned_of():
    data = load(
        "a.csv", table([*rows(("negative",), 300), *((f"{sentence(i)} rare", "positive") for i in range(300, 307))])
    )
    (said,) = [w for w in data_report(data).warnings if "test text" in w]
    count = int((data.split("test")["label"] == 1).sum())
    assert said.startswith(f"class 'positive' has {count} test text")
    assert f"{1 - count / len(data.split('test')):.1%} accuracy" in said


# Containers


def test_gzip_is_read_whatever_its_name():
    for name in ("a.csv.gz", "a.csv"):
        data = load(name, gzip.compress(table(UTF8)))
        assert texts_of(data) == {t for t, _ in UTF8} and data.reading.format == "CSV"
    assert len(load("a.jsonl.gz", gzip.compress(json_lines({"text": t, "label": lb} for t, lb in rows()))).frame) == N


def test_damaged_gzip_is_refused():
    assert "damaged gzip" in refused("a.csv.gz", gzip.compress(table(rows()))[:-20])


def test_a_pattern_joins_files_and_rows_are_named_by_file():
    for i in range(3):
        Path(f"part{i}.csv").write_bytes(table(rows()[i * 50 : i * 50 + 50]))
    data = load_own("mine", source("part*.csv"))
    assert texts_of(data) == {t for t, _ in rows()}
    assert data.reading.file == "part*.csv (3 files)" and data.reading.num_rows == N
    Path("part1.csv").write_bytes(table([("some text", "meh")]))
    with pytest.raises(DataError, match=r"part\*\.csv: part1\.csv: row 1 \(line 2\): column 'label': 'meh'"):
        load_own("mine", source("part*.csv", labels=TWO))
    with pytest.raises(PrerequisiteError, match=r"none\*\.csv: no file matches"):
        load_own("mine", source("none*.csv"))


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.zip", "a.xls"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "is a zip archive; `unzip a."),
        (b"\xd0\xcf\x11\xe0rest", "is an Excel workbook that is encrypted or of the format .xls"),
        (b"BZh9rest", "`bunzip2 --keep a."),
        (b"\xfd7zXZ\0", "`xz --decompress --keep a."),
    ],
)
def test_other_containers_are_named_with_what_converts_them(name, content, what):
    assert what in refused(name, content)


def test_a_json_array_is_named_with_what_converts_it():
    assert "`jq -c '.[]' a.json` makes JSONL" in refused("a.json", b'[{"text": "a"}]')


def test_rows_survive_any_table_that_pandas_or_csv_writes():
    out = io.StringIO()
    odd = [f'{sentence(i)} "q" \\" \\ , ; \t | \n x' for i in range(N)]
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *((t, lb) for t, (_, lb) in zip(odd, rows(), strict=True))]
    )
    assert texts_of(load("a.csv", out.getvalue().encode())) == set(odd)
