"""What a person can get wrong with texts to label: rows of the table in test_bad_input.py."""

# file, its content, --text-column, and what the message of `predict` must say
TEXTS = [
    ("a.txt", b"", None, "a.txt: holds no text; expected at least one"),
    ("a.csv", b"", None, "a.csv: the file is empty (0 bytes)"),
    ("a.csv", b"text,n\n", None, "a.csv: holds no text"),
    ("a.jsonl", b"\n \n", None, "a.jsonl: contains no JSON object"),
    ("a.parquet", b"", None, "a.parquet: the file is empty"),
    ("a.parquet", b"PAR1 and no more", None, "a.parquet: not a Parquet file"),
    (
        "a.doc",
        b"text",
        None,
        "a.doc: its name does not end in .txt, .csv, .tsv, .xlsx, .xlsm, .jsonl, .ndjson, .parquet",
    ),
    ("a.xlsx", b"text", None, "a.xlsx: is named .xlsx, but is no Excel workbook"),
    (
        "a.xlsx",
        b"PK\x03\x04[Content_Types].xml",
        None,
        "a.xlsx: is a damaged Excel workbook, or another Office document than .xlsx; open it and save",
    ),
    ("reviews", b"good\n", None, "reviews: its name does not end in"),
    ("a.txt", b"good\nna\xefve\n", None, "a.txt: byte 7 (0xef) is not UTF-8; convert the file"),
    ("a.txt", b"x" * 70_000 + b"\ncaf\xe9\n", None, "a.txt: byte 70004 (0xe9) is not UTF-8"),
    ("a.txt", b"\xef\xbb\xbfgood\nna\xefve\n", None, "a.txt: byte 10 (0xef) is not UTF-8"),
    ("a.txt", "good\n".encode("utf-16"), None, "a.txt: byte 3 is 0, so this is binary or UTF-16"),
    ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", None, "a.txt: byte 8 is 0, so this is binary"),
    ("a.txt", b"good\n", "text", "--text-column 'text': a.txt has one text per line and no columns"),
    ("a.csv", b"id,body\n1,good\n", None, "a.csv: no column 'text'; there are 'id', 'body'; choose with --text-column"),
    ("a.csv", b"id,body\n1,good\n", "Body", "a.csv: no column 'Body'; there are 'id', 'body'"),
    ("a.csv", b"text,text\na,b\n", None, "a.csv: text column 'text' occurs 2 times in the header"),
    (
        "a.tsv",
        b"id,text\n1,good\n",
        None,
        "a single column, 'id,text'; the separator is expected to be one of comma, semicolon, tab, bar (a .tsv file: tab)",
    ),
    ("a.csv", b"id,text\n1,good\n2,bad, very\n", None, "a.csv: row 2 (line 3): 3 cells where the header has 2"),
    ("a.csv", b'id,text\n1,"never, closed\n', None, "a.csv: line 2: unexpected end of data; a quoted cell"),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', None, "a.jsonl: line 2: not JSON (Expecting value, character"),
    ("a.jsonl", b'{"text": "a"}\n["a"]\n', None, "a.jsonl: line 2: a list; expected one JSON object per line"),
    (
        "a.jsonl",
        b'{"id": 1, "body": "b"}\n',
        None,
        "a.jsonl: no column 'text'; there are 'id', 'body'; choose with --text-column",
    ),
    ("a.jsonl", b"[" * 100_000 + b"\n", None, "a.jsonl: line 1: nested too deeply"),
    ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", None, "a.jsonl: line 1: not JSON (Exceeds the limit"),
]

PREDICT = [
    (["--model", "majorty", "--input", "a.txt"], "'majorty': did you mean 'majority'? known are majority"),
    (["--model", "0123456789", "--input", "a.txt"], "unknown model in"),
    (["--model", "majority", "--input", "nowhere.txt"], "nowhere.txt: No such file or directory; expected a file"),
    (["--model", "majority", "--input", "folder"], "folder: its name does not end in .txt"),
    (["--model", "majority", "--input", "a.txt", "--output", "folder"], "--output folder: is a folder"),
    (
        ["--model", "majority", "--input", "a.txt", "--output", "no/b.csv"],
        "--output no/b.csv: No such file or directory",
    ),
    (["--model", "majority", "--input", "a.txt", "--output", "./a.txt"], "--output ./a.txt: is the input"),
    (
        ["--model", "majority", "--input", "a.txt", "--output", "/dev/full"],
        "--output /dev/full: No space left on device",
    ),
    (["--model", "majority", "--input", "a.txt", "--output", "loop"], "--output loop: "),
    (["--model", "majority", "--input", "a.txt", "--batch-size", "0"], "--batch-size 0: allowed is 1 or more"),
    (
        ["--model", "majority", "--input", "a.txt", "--batch-size", "many"],
        "argument --batch-size: invalid int value: 'many'",
    ),
    (["--model", "majority", "--input", "a.txt", "--store", "other"], "has no fit yet; start with"),
    (["--model", "majority", "--input", "-", "--text-column", "x"], "standard input has one text per line"),
    (
        ["--model", "majority", "--input", "a.txt", "--input-format", "tsv"],
        "--input-format tsv: is the format of standard input; that of a.txt follows from its name",
    ),
    (["--model", "majority", "--input", "a.txt", "--format", "xml"], "argument --format: invalid choice: 'xml'"),
    (["--model", "majority"], "the following arguments are required: --input"),
    (["--input", "a.txt"], "the following arguments are required: --model"),
    (["--model", "majority", "--input", "loop"], "loop: its name does not end in .txt"),
    (["--model", "majority", "--input", "x" * 300 + ".csv"], "File name too long"),
]
"""Options of `predict` beside a file a.txt and a store with a fit of `majority`, and the message."""
