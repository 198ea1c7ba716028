"""Reports on a user's own data before training: rows, labels, the language of the texts, their lengths in tokens."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.config import Catalogue
from moodbench.config.schema import DatasetEntry, PreparationStep
from moodbench.data.examples import SPLITS, Examples, Reading
from moodbench.data.labelling import shown
from moodbench.data.loader import Sources
from moodbench.data.near_duplicates import normalised
from moodbench.models.locate import locate
from moodbench.models.tokenizer import load_tokenizer, refusing_damage
from moodbench.preparation import MARKUP_NAMES, num_with_markup, prepare_text
from moodbench.spec import FitSpec, TrialSpec

MIN_OF_CLASS = 10
"""Test texts of a class below which the report warns: one text then changes its recall by more than 10 points."""
READS_EMOJI = "vader"
"""English-only model with a lexicon of emoji."""
MAX_TEXTS = 2_000
"""Texts whose language is looked at, evenly spaced."""
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


def data_reports(trials: Sequence[TrialSpec], catalogue: Catalogue, sources: Sources) -> list[DataReport]:
    """Return one report for each dataset of `trials` that is read from a file, Kaggle or the hub.

    Raises: PrerequisiteError if a tokenizer cannot be loaded.
    """
    fits: dict[str, dict[str, FitSpec]] = {}
    for trial in trials:
        fits.setdefault(trial.fit.dataset.name, {}).setdefault(trial.fit.model.name, trial.fit)
    reports = []
    for dataset, models in fits.items():
        examples = sources.load(dataset, next(iter(models.values())).dataset)
        if examples.reading is not None:
            reports.append(
                data_report(
                    examples,
                    baselines=[name for name, fit in models.items() if fit.text is None],
                    lengths=_lengths(models.values(), examples),
                    entry=catalogue.datasets.get(dataset),
                    english=english_models(models, catalogue),
                    prepare=next(iter(models.values())).preparation,
                )
            )
    return reports


def _lengths(fits: Iterable[FitSpec], examples: Examples) -> list[Lengths]:
    """Return the lengths in tokens, counted once for all fits that tokenize alike."""
    alike: dict[tuple[object, ...], list[FitSpec]] = {}
    for fit in fits:
        if fit.text is not None:
            alike.setdefault((fit.model.tokenizer_sha256, fit.text, fit.preparation), []).append(fit)
    counted = []
    for first, *others in alike.values():
        assert first.model.source is not None
        folder = locate(first.model.name, first.model.source).folder
        with refusing_damage(first.model.name, folder):
            tokenizer = load_tokenizer(first, folder)
        num_tokens = tokenizer.num_tokens([prepare_text(text, first.preparation) for text in examples.frame["text"]])
        names = tuple(fit.model.name for fit in (first, *others))
        counted.append(token_lengths(examples, names, num_tokens, tokenizer.limit))
    return counted


def token_lengths(
    examples: Examples, models: tuple[str, ...], num_tokens: npt.NDArray[np.int64], max_length: int
) -> Lengths:
    """Return the lengths of `examples` for models that read at most `max_length` of the `num_tokens` `(n,)` of each."""
    cut, is_test = num_tokens > max_length, (examples.frame["split"] == "test").to_numpy()
    return Lengths(models, "tokens", *_spread(num_tokens), max_length, float(cut.mean()), float(cut[is_test].mean()))


@dataclass(frozen=True)
class Lengths:
    """Distribution of the text lengths for a group of models, and the share of truncated texts."""

    models: tuple[str, ...]
    unit: Literal["tokens", "words"]
    p50: int
    p95: int
    longest: int
    max_length: int | None = None
    """Maximum input length in tokens; None for baselines, which do not truncate."""
    cut_share: float = 0.0
    """Share of all texts that are longer than `max_length`."""
    test_cut_share: float = 0.0
    """The same share of the test texts alone, as in evaluation records."""

    def line(self) -> str:
        """Return the lengths as one line for a terminal."""
        shown = f"{self.unit} per text{' for ' + ', '.join(self.models) if self.models else ''}"
        counts = f"median {self.p50:,}, P95 {self.p95:,}, longest {self.longest:,}"
        if self.max_length is None:
            return f"{shown}: {counts}{'; none is cut' if self.models else ''}"
        cut = f"{self.cut_share:.1%} are cut at {self.max_length:,} ({self.test_cut_share:.1%} of the test texts)"
        return f"{shown}: {counts}; {cut}"


@dataclass(frozen=True)
class DataReport:
    """Counts and shares of one dataset; logged as an event of a run."""

    dataset: str
    reading: Reading
    num_used: int
    counts: Mapping[str, Mapping[str, int]]
    """Class -> split -> rows; the last class is the positive one."""
    lengths: tuple[Lengths, ...]
    """Lengths in words for the baselines, then in tokens for each group of models with the same tokenisation."""
    num_markup: Mapping[PreparationStep, int]
    """Step -> texts, as they were read, with markup that it would remove or, if requested, removes."""
    num_test_in_train: int
    """Test texts that are also in the training split, after normalisation."""
    licence: str | None = None
    """Licence and terms of the texts; None for the user's own texts."""
    language: Language | None = None
    """Script or language of most texts, if it is not English."""
    prepare: tuple[PreparationStep, ...] = ()
    """Steps of the request, which every model applies."""
    warnings: tuple[str, ...] = field(default=())

    def as_event(self) -> dict[str, Any]:
        """Return the report as one event of a run."""
        return {"event": "data_report", **asdict(self)}

    def _content(self) -> Iterator[str]:
        """Yield the language of the texts, which markup was removed from them, and which is still there."""
        if self.language:
            yield f"language: mainly {self.language.name} ({self.language.share:.1%} of texts)"
        for step, count in self.reading.prepared.items():
            name = MARKUP_NAMES.get(step, f"what step {step} changes")
            yield f"{count:,} texts contained {name}; replaced, as the source declares `prepare: [{step}]`"
        for step, count in self.num_markup.items():
            if count and step in self.prepare:
                yield f"{count:,} texts contain {MARKUP_NAMES[step]}; every model replaces them (--prepare {step})"
            elif count:
                yield f"{count:,} texts contain {MARKUP_NAMES[step]}; --prepare {step} replaces them"

    def lines(self) -> list[str]:
        """Return the report as lines for a terminal."""
        read = self.reading
        separator = f", separator {read.separator!r}" if read.separator else ""
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in read.dropped.items() if count) or "none"
        groups = "" if read.num_groups is None else f", {read.num_groups:,} groups whole"
        width = max(len(name) for name in (*self.counts, "class"))
        table = [["class", *SPLITS]] + [[n, *(f"{c[s]:,}" for s in SPLITS)] for n, c in self.counts.items()]
        return [
            f"{'Dataset' if read.source_rows else 'Your data'} {self.dataset}: {read.file}, {read.format}{separator}"
            f"{', ' + read.encoding if read.encoding else ''}",
            *([f"  licence: {self.licence}"] if self.licence else []),
            f"  rows: {read.num_rows:,} read, {self.num_used:,} used; dropped: {dropped}",
            *("  " + row[0].ljust(width) + "".join(cell.rjust(12) for cell in row[1:]) for row in table),
            f"  positive class: {list(self.counts)[-1]}",
            f"  splits: {read.split_rule}{groups} ({read.num_kept_together:,} texts kept beside others)",
            *(f"  {each.line()}" for each in self.lengths),
            *(f"  {line}" for line in self._content()),
            f"  test texts that are also in train: {self.num_test_in_train:,}",
            *(
                [f"  test texts with a near-duplicate in train: {read.num_near_duplicates:,}"]
                if read.num_near_duplicates is not None
                else []
            ),
            *(f"  warning: {warning}" for warning in self.warnings),
        ]


def data_report(
    examples: Examples,
    *,
    baselines: Sequence[str] = (),
    lengths: Sequence[Lengths] = (),
    entry: DatasetEntry | None = None,
    english: Sequence[str] = (),
    prepare: tuple[PreparationStep, ...] = (),
) -> DataReport:
    """Return the report on the examples that a run uses.

    Lengths are reported in words for `baselines`, followed by `lengths` in tokens. `entry` provides licence, terms and
    the published size of the source. The models `english` were made for English, and all apply the steps `prepare`.
    """
    frame, labels, reading = examples.frame, examples.labels, examples.reading
    assert reading is not None
    words = np.array([len(text.split()) for text in frame["text"]])
    norms = frame["text"].map(normalised)
    in_train = set(norms[frame["split"] == "train"])
    overlap = int(norms[frame["split"] == "test"].isin(in_train).sum())
    counts = {
        name: {s: int(((frame["label"] == i) & (frame["split"] == s)).sum()) for s in SPLITS}
        for i, name in enumerate(labels)
    }
    language = foreign_language(frame["text"].tolist())
    warnings = [*reading.warnings, *_of_classes(counts), *_of_language(language, english)]
    published = dict(entry.num_source_rows) if entry else {}
    rows = reading.source_rows
    differing = [f"{k} {rows.get(k, 0):,} for {n:,}" for k, n in published.items() if rows and rows.get(k) != n]
    if differing:
        warnings.append(f"the source has other sizes than published: {', '.join(differing)} rows")
    if overlap:
        warnings.append(
            f"{overlap:,} test texts are in train too, so scores flatter models that remember; "
            "without the split column, MoodBench splits without overlap"
        )
    return DataReport(
        dataset=examples.name,
        reading=reading,
        num_used=len(frame),
        counts=counts,
        lengths=(Lengths(tuple(baselines), "words", *_spread(words)), *lengths),
        num_markup=num_with_markup(frame["text"]),
        language=language,
        prepare=prepare,
        num_test_in_train=overlap,
        licence=None if entry is None or examples.private else " · ".join(filter(None, (entry.licence, entry.terms))),
        warnings=tuple(warnings),
    )


def _of_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a warning for each class that is too rare in the test split to tell models apart."""
    test = {name: splits["test"] for name, splits in counts.items()}
    total, most = sum(test.values()), max(test.values())
    return [
        f"class {shown(name)} has {count} test text{'s' if count != 1 else ''} of {total:,}: too few to tell whether a "
        f"model knows it, and F1 rests on them; the most frequent class alone gives {most / total:.1%} accuracy"
        for name, count in test.items()
        if count < MIN_OF_CLASS
    ]


def english_models(names: Iterable[str], catalogue: Catalogue) -> list[str]:
    """Return those of the models that the catalogue says were made for English."""
    return [name for name in names if name in catalogue.models and catalogue.models[name].english_only]


def language_warnings(examples: Examples, english: Sequence[str]) -> list[str]:
    """Return a warning if the texts of `examples` are not in the language of the models `english`."""
    return _of_language(foreign_language(examples.frame["text"].tolist()), english)


def _of_language(language: Language | None, english: Sequence[str]) -> list[str]:
    if language is None:
        return []
    unfit = [name for name in english if name != READS_EMOJI or language.name != NO_LETTERS]
    if not unfit:
        return []
    return [
        f"{', '.join(unfit)} {'was' if len(unfit) == 1 else 'were'} made for English, but {language.share:.1%} of the "
        f"texts are {language.name if language.name == NO_LETTERS else 'in ' + language.name}: expect low scores; "
        "compare with multilingual models, such as EuroBERT-210m or Gemma-3-270M, and with tfidf-logreg, which reads "
        "any script"
    ]


def _spread(lengths: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """Return the median, the 95th percentile and the maximum; each is the length of an existing text."""
    p50, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
    return int(p50), int(p95), int(lengths.max())


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
