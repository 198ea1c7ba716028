"""Lines of a text file, plain or gzip, in UTF-8, cp1252, latin-1 or a mixture; archives and the like are refused."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from moodbench.errors import DataError

LONGEST_BYTES = 16 * 2**20
"""Maximum length of a line or cell; anything longer indicates a wrong file or an unclosed quote."""
GZIP = b"\x1f\x8b"
_SAVE = "save it as .xlsx or 'CSV UTF-8' there, or `libreoffice --headless --convert-to csv {}`"
_OFFICE = f"a damaged Excel workbook, or another Office document than .xlsx; open it and {_SAVE}"
_ZIP = b"PK\x03\x04"
_CONTAINERS = {
    b"\xd0\xcf\x11\xe0": f"an Excel workbook that is encrypted or of the format .xls; remove its password and {_SAVE}",
    _ZIP: "a zip archive; `unzip {}`, and give the file in it",
    b"BZh": "compressed by bzip2; `bunzip2 --keep {}`, and give the result (gzip is read as it is)",
    b"\xfd7zXZ": "compressed by xz; `xz --decompress --keep {}`, and give the result (gzip is read as it is)",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; `zstd --decompress {}`, and give the result (gzip is read as it is)",
    b"7z\xbc\xaf": "a 7z archive; `7z x {}`, and give the file in it",
    b"Rar!": "a RAR archive; `unrar x {}`, and give the file in it",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"%PDF": "a PDF document; export the table as CSV where it was made",
}
"""First bytes of what is not a table of text -> what it is and how it is converted."""
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""First bytes of text in wide characters -> its encoding; UTF-32 comes first, as it begins like UTF-16."""
_TYPES = "[Content_Types].xml"
_WORKBOOK_TYPE = re.compile(rb"(spreadsheetml\.(sheet|template)|ms-excel\.(sheet|template)\.macroEnabled)\.main\+xml")
"""Content type of the main part of a workbook that `workbook` reads: ECMA-376 part 1, 12.3.23."""
_NOT_WINDOWS = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
"""Bytes that are undefined in cp1252."""
_ESCAPED = re.compile("[\udc80-\udcff]")
_LETTERS = {0xDC00 + byte: bytes([byte]).decode("cp1252", errors="replace") for byte in range(0x80, 0x100)}
_LETTERS |= {place: chr(place - 0xDC00) for place, letter in _LETTERS.items() if letter == "\ufffd"}
"""Surrogate that stands for a byte outside UTF-8 -> its character in cp1252, or in latin-1 where cp1252 has none."""


@dataclass(frozen=True)
class Encoding:
    """How the bytes of a text file are decoded."""

    name: str
    """utf-8, cp1252 or latin-1."""
    num_bytes: int
    """Size of the text, decompressed."""
    num_odd: int = 0
    """Lines of a UTF-8 file that are not valid UTF-8; their other bytes are read as cp1252."""
    first_odd: int = 0
    """Number of the first of these lines, counted from 1."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Note to the user about the decoding."""
        if self.name != "utf-8":
            return (f"the file is not UTF-8 and was read as {self.name}; look for wrong letters, or save it as UTF-8",)
        if not self.num_odd:
            return ()
        lines = f"line {self.first_odd} is" if self.num_odd == 1 else f"{self.num_odd:,} lines are"
        first = f" (the first is line {self.first_odd})" if self.num_odd > 1 else ""
        return (f"{lines} not valid UTF-8 in a file of UTF-8{first}; the odd bytes were read as cp1252",)


def refuse_container(path: Path) -> None:
    """Raise DataError, with what converts it, if the first bytes are those of an archive, a database or the like."""
    if is_workbook(path):
        return
    with path.open("rb") as file:
        head = file.read(4096)
    for magic, what in _CONTAINERS.items():
        if head.startswith(magic):
            if magic == _ZIP and any(part in head for part in (_TYPES.encode(), b"xl/", b"opendocument")):
                what = _OFFICE
            raise DataError(f"{path}: is {what.format(path.name)}")


def is_workbook(path: Path) -> bool:
    """Return whether a file is an Excel workbook (.xlsx or .xlsm), whatever its name."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_TYPES) as types:
            return _WORKBOOK_TYPE.search(types.read(1 << 20)) is not None
    except (zipfile.BadZipFile, zlib.error, LookupError, OSError, EOFError, RuntimeError, ValueError):
        return False


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed if it is gzip, whatever its name."""
    return cast(BinaryIO, gzip.open(path)) if is_gzip(path) else path.open("rb")


def is_gzip(path: Path) -> bool:
    """Return whether a file is compressed by gzip."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their line ends (LF, CRLF or CR), decoded as `encoding_of` says.

    Raises: DataError as `encoding_of`.
    """
    encoding = encoding_of(path)
    name, errors = ("utf-8-sig", "surrogateescape") if encoding.name == "utf-8" else (encoding.name, "strict")
    with io.TextIOWrapper(open_bytes(path), encoding=name, errors=errors, newline="") as file:
        if not encoding.num_odd:
            yield from file
        else:
            for line in file:
                yield line.translate(_LETTERS) if _ESCAPED.search(line) else line


def encoding_of(path: Path) -> Encoding:
    """Return the encoding of a text file, kept until the file changes.

    Without a valid multi-byte character, a file that is not UTF-8 is cp1252, which is what Windows programs write when
    they say ANSI or latin-1, or latin-1 if it has a byte that is undefined in cp1252. Web browsers likewise read
    latin-1 as cp1252: https://encoding.spec.whatwg.org/#names-and-labels. With valid ones it is UTF-8, in which some
    lines came from elsewhere.
    Raises: DataError for UTF-16, binary and damaged files, and for lines longer than `LONGEST_BYTES`.
    """
    status = path.stat()
    try:
        return _encoding_of(path, status.st_mtime_ns, status.st_size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error}); copy or compress it again") from error


@lru_cache(maxsize=8)
def _encoding_of(path: Path, _mtime_ns: int, _size: int) -> Encoding:
    with open_bytes(path) as file:
        num_bytes, is_utf8, has_undefined = _scan(path, file)
    if is_utf8:
        return Encoding("utf-8", num_bytes)
    num_odd = first_odd = num_wide = num_narrow = num_invalid = 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            if line.isascii():
                continue
            text = line.decode("utf-8", errors="surrogateescape")
            invalid = len(_ESCAPED.findall(text))
            narrow = sum("\u0100" <= char < "\u0800" for char in text)
            num_narrow, num_invalid = num_narrow + narrow, num_invalid + invalid
            num_wide += sum(char > "\x7f" for char in text) - invalid - narrow
            if invalid:
                num_odd, first_odd = num_odd + 1, first_odd or number
    # Two cp1252 letters such as \xc9\xbb may by chance be a character from U+0100 to U+07FF.
    if num_wide or num_narrow > num_invalid:
        return Encoding("utf-8", num_bytes, num_odd, first_odd)
    return Encoding("latin-1" if has_undefined else "cp1252", num_bytes)


def _scan(path: Path, file: BinaryIO) -> tuple[int, bool, bool]:
    """Return the size in bytes, whether all of it is UTF-8, and whether it has bytes that are undefined in cp1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = line_start = 0
    is_utf8, has_undefined = True, False
    while block := file.read(1 << 20):
        if start == 0 and (wide := next((name for mark, name in _WIDE.items() if block.startswith(mark)), None)):
            raise DataError(
                f"{path}: is {wide} text; allowed are UTF-8, cp1252 and latin-1, save it as UTF-8, for instance: "
                f"iconv -f {wide} -t UTF-8"
            )
        nul = block.find(b"\0")
        if nul >= 0:
            raise DataError(
                f"{path}: is binary, not text (NUL at byte {start + nul}); a spreadsheet or an archive must be "
                "exported as CSV in UTF-8 first"
            )
        if (line_end := max(block.rfind(b"\n"), block.rfind(b"\r"))) >= 0:
            line_start = start + line_end + 1
        if start + len(block) - line_start > LONGEST_BYTES:
            raise DataError(
                f"{path}: from byte {line_start} on, one line is longer than {LONGEST_BYTES >> 20} MiB; expected "
                "one row per line, but for line breaks in double quotes"
            )
        is_utf8 = is_utf8 and _decodes(decoder, block)
        has_undefined = has_undefined or _NOT_WINDOWS.search(block) is not None
        start += len(block)
    return start, is_utf8 and _decodes(decoder, b"", final=True), has_undefined


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True
