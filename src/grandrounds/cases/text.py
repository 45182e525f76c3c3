"""Text files as people have them: other encodings than UTF-8, other delimiters than commas. What was found is said."""

from __future__ import annotations

import codecs
from pathlib import Path

from grandrounds.errors import CaseError

BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DELIMITERS = ",;\t|"
# Of the lines that are not ASCII so many must be no UTF-8 for the file to be of another encoding, not damaged.
SHARE = 0.5
# With fewer bytes beyond ASCII a guess is worth nothing.
FEW, WESTERN = 16, "cp1252"
NAME_IT = "Save it as UTF-8, or name its encoding: --set cases.encoding=cp1252."


def decoded(path: Path, data: bytes, named: str | None, notes: list[str]) -> bytes:
    """The file as UTF-8; a note says what it was read as where that was found out. Damaged lines stay as they are.

    named: its encoding, by `cases.encoding`. Raises CaseError where it is not that, or is not found out.
    """
    encoding = named or next((name for bom, name in BOMS.items() if data.startswith(bom)), None)
    if encoding is None and _is_other(data):
        encoding = _guessed(data)
        if encoding is None:
            raise CaseError("this is not UTF-8 text", where=str(path), hint=NAME_IT)
    if encoding is None:
        return data
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise CaseError(f"this is no {encoding} text", where=str(path), hint=NAME_IT) from None
    if named is None and not encoding.startswith("utf-8"):
        notes.append(f"{path.name} is read as {encoding}, not UTF-8: check accents and signs. {NAME_IT}")
    return text.encode()


def _guessed(data: bytes) -> str | None:
    """The likeliest encoding. With few signs to go by, or where it is as likely as another, that of Western Windows."""
    from charset_normalizer import from_bytes

    if sum(byte > 127 for byte in data) < FEW:
        return WESTERN
    found = from_bytes(data)
    names = {name for match in found for name in (match.encoding, *match.could_be_from_charset)}
    best = found.best()
    return WESTERN if WESTERN in names else best.encoding if best else None


def _is_other(data: bytes) -> bool:
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    broken = sum(not _is_utf8(line) for line in lines)
    return bool(broken) and broken >= SHARE * len(lines)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def delimiter_of(path: Path, text: str, notes: list[str]) -> str:
    """What separates the header's fields: a tab in .tsv files, else the commonest of comma, semicolon, tab, bar."""
    if ".tsv" in path.suffixes:
        return "\t"
    header = text.partition("\n")[0]
    found = max(DELIMITERS, key=lambda sign: (header.count(sign), -DELIMITERS.index(sign)))
    if found != ",":
        notes.append(
            f"{path.name} is read with {'tabs' if found == chr(9) else f'`{found}`'} between fields."
        )
    return found
