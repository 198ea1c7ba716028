"""The script or language that most texts of a dataset are in, as far as letters and function words tell."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

MAX_TEXTS = 2_000
"""Texts that are looked at, evenly spaced."""
NO_LETTERS = "emoji and signs without letters"
_LATIN = "Latin script"
_EAST_ASIAN = "Chinese or Japanese script"
_SCRIPTS = {name: _EAST_ASIAN for name in ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "KATAKANA-HIRAGANA")}
_WORD = re.compile(r"[^\W\d_]+")
_FUNCTION_WORDS = {
    "English": "the and is was it of this to that with for have not you are but my i be they very",
    "German": "und der die das ist nicht ich ein eine sehr mit auch aber für wir auf von es zu sie",
    "French": "et le la les est pas une un je très des pour que dans avec ce qui il nous de",
    "Spanish": "el la los que y es muy una un con por para de se lo pero está en las",
    "Italian": "il di che è non una un per sono molto con la le ma ho questo della",
    "Portuguese": "que não é muito uma um com para de do da os mas eu meu em",
    "Dutch": "het een en van niet ik zeer met maar voor op dat erg de ook",
    "Polish": "nie się jest na bardzo w z że ale jak za po tak mi",
    "Czech": "je na se že velmi ale není jsem s v si jako pro",
    "Romanian": "și este nu foarte un pe cu de la care sunt din mai",
    "Hungarian": "az és nem hogy egy nagyon van de meg volt ez",
    "Turkish": "ve bir çok bu için ama da değil gibi daha ne",
    "Indonesian or Malay": "dan yang ini tidak saya untuk di dengan sangat itu ada",
    "Vietnamese": "và là của không rất có cho này được tôi",
    "Swedish": "och är det inte en jag mycket att som på med för",
    "Danish or Norwegian": "og er det ikke jeg en meget som på med af av veldig",
    "Finnish": "ja ei ole se että mutta oli todella kun niin hyvin",
}
_WORDS_OF = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}


class Language(NamedTuple):
    """A script or language other than English, and the share of the texts that are in it."""

    name: str
    share: float


def foreign_language(texts: Sequence[str]) -> Language | None:
    """Return the script or language of most of `texts`, or None if this is English or cannot be told.

    A text belongs to the script of most of its letters. One in Latin script belongs to a language if it has more of
    that language's function words than of English.
    """
    seen = texts[:: max(1, len(texts) // MAX_TEXTS)]
    scripts = Counter(map(_script_of, seen))
    latin = scripts.pop(_LATIN, 0)
    if scripts and 2 * scripts.total() > len(seen):
        name = scripts.most_common(1)[0][0]
        return Language(name, scripts[name] / len(seen))
    return _latin_language(seen) if 2 * latin > len(seen) else None


def _latin_language(texts: Sequence[str]) -> Language | None:
    """Return the language with more function words than English in most of `texts`; None if there is none."""
    counted = [Counter(_WORD.findall(text.casefold())) for text in texts]
    hits = {
        language: [sum(words[word] for word in known) for words in counted] for language, known in _WORDS_OF.items()
    }
    english = hits.pop("English")
    best = max(hits, key=lambda language: sum(hits[language]))
    share = sum(theirs > ours for theirs, ours in zip(hits[best], english, strict=True)) / len(texts)
    return Language(best, share) if share > 0.5 else None


def _script_of(text: str) -> str:
    """Return the script of most letters of `text`."""
    letters = Counter(_script_of_letter(char) for char in text if char.isalpha())
    return letters.most_common(1)[0][0] if letters else NO_LETTERS


@cache
def _script_of_letter(char: str) -> str:
    words = unicodedata.name(char, "").split()
    name = next((word for word in words if word not in ("HALFWIDTH", "FULLWIDTH", "EXTENDED")), "LATIN")
    if name in _SCRIPTS:
        return _SCRIPTS[name]
    known = name not in ("LATIN", "MATHEMATICAL", "MODIFIER", "FEMININE", "MASCULINE", "MICRO", "DOUBLE-STRUCK")
    return f"{name.capitalize()} script" if known else _LATIN
