"""Texts in another script or language are told from English ones, and the models made for English are named."""

import json

import pytest
from own_files import load, table

from moodbench.benchmark.data_report import data_report, english_models, foreign_language
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.data.loader import load_source

pytestmark = pytest.mark.usefixtures("empty_folder")

THINGS = 25
WRITTEN = {
    "Arabic script": "هذا الكتاب رقم {} جميل جدا",
    "Chinese or Japanese script": "这个水壶质量很棒第{}个我很喜欢",
    "Hangul script": "이 책 {} 은 정말 좋아요",
    "Thai script": "หูฟังชิ้นนี้ชอบมากซื้อครั้งที่{}",
    "Cyrillic script": "Эта книга номер {} очень хорошая",
    "Greek script": "Το βιβλίο {} είναι πολύ καλό",
    "Hebrew script": "הספר הזה {} טוב מאוד",
    "Devanagari script": "यह किताब {} बहुत अच्छी है",
    "emoji and signs without letters": "📺📦💯😍 {} 💯",
    "German": "Das Buch {} ist sehr gut und ich habe es gern gelesen",
    "French": "Le livre {} est très bon et je le conseille pour les enfants",
    "Spanish": "El libro {} es muy bueno y lo recomiendo para los niños",
    "Italian": "Il libro {} non è per me ma è scritto molto bene",
    "Portuguese": "O livro {} é muito bom e não me canso de ler para os meus filhos",
    "Dutch": "Het boek {} is niet goed maar ik heb het met plezier gelezen van het begin",
    "Polish": "Książka {} jest bardzo dobra i nie żałuję że się na nią zdecydowałem",
    "Turkish": "Bu kitap {} çok güzel ve daha iyi bir kitap için değil",
    "Swedish": "Boken {} är mycket bra och jag tycker om den för att det är en fin bok",
    "Finnish": "Kirja {} oli todella hyvä ja se ei ole liian pitkä",
    "Indonesian or Malay": "Buku {} ini sangat bagus dan saya suka untuk dibaca",
    "Vietnamese": "Cuốn sách {} này rất hay và không quá dài cho tôi",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_script_or_language_is_named(name):
    language = foreign_language([WRITTEN[name].format(i) for i in range(THINGS)])
    assert (language.name, language.share) == (name, 1.0)


ENGLISH = (
    "Great product! Love it.", "good", "ok", "Not worth the money, it broke after 2 days", "so bad :( never again", "👍 nice",
    "The die was cast and la la land is a de facto classic", "Me gusta... just kidding, it's awful", "", "5/5", "naïve café",
)  # fmt: skip


def test_english_is_no_foreign_language_and_some_foreign_texts_do_not_make_the_dataset_foreign():
    assert foreign_language(ENGLISH) is None
    assert foreign_language([]) is None
    mixed = [*ENGLISH, *(WRITTEN["German"].format(i) for i in range(9))]
    assert foreign_language(mixed) is None
    assert foreign_language([*mixed, *(WRITTEN["German"].format(i) for i in range(9))]).share == pytest.approx(18 / 29)


@pytest.mark.parametrize("name", ["icwsm-movie", "icwsm-product", "icwsm-tweets"])
def test_the_embedded_datasets_are_english(name):
    assert foreign_language(load_source(name, load_catalogue().dataset(name)).frame["text"].tolist()) is None


def lines_of(name):
    """150 rows of that language, no two of them alike."""
    numbers = [" ".join(str(1000 * j + i) for j in range(20)) for i in range(150)]
    return [(f"{WRITTEN[name].format(i)} {numbers[i]}", ("bad", "good")[i % 2]) for i in range(150)]


def test_the_report_names_the_models_that_were_made_for_english():
    english = english_models(["tfidf-logreg", "vader", "MiniLM-L6", "Gemma-3-270M", "mine"], load_catalogue())
    assert english == ["vader", "MiniLM-L6"]
    told = "\n".join(data_report(load("a.csv", table(lines_of("Thai script"))), english=english).lines())
    assert "language: mainly Thai script (100.0% of texts)" in told
    assert "warning: vader, MiniLM-L6 were made for English, but 100.0% of the texts are in Thai script" in told
    assert "tfidf-logreg, which reads any script" in told
    german = data_report(load("b.csv", table(lines_of("German"))), english=["vader"]).warnings
    assert any(w.startswith("vader was made for English, but 100.0% of the texts are in German") for w in german)


def test_vader_reads_emoji_and_others_are_warned_of():
    data = load("a.csv", table(lines_of("emoji and signs without letters")))
    assert not any("made for English" in w for w in data_report(data, english=["vader"]).warnings)
    (warning,) = [w for w in data_report(data, english=["vader", "MiniLM-L6"]).warnings if "made for English" in w]
    assert warning.startswith("MiniLM-L6 was made for English, but 100.0% of the texts are emoji and signs")


def printed(capsys, *request):
    with pytest.raises(SystemExit) as ended:
        main(list(request))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_plan_warns_before_anything_runs(capsys):
    load("reviews.csv", table(lines_of("Arabic script")))
    request = ["plan", "--models", "vader", "majority", "--data", "reviews.csv", "--text-column", "text",
               "--label-column", "label"]  # fmt: skip
    told = " ".join(printed(capsys, *request).split())
    assert "warning: data reviews: vader was made for English, but 100.0% of the texts are in Arabic script" in told
    assert len(json.loads(printed(capsys, *request, "--json"))["warnings"]) == 1
    english = printed(capsys, "plan", "--models", "vader", "--dataset", "icwsm-movie", "--json")
    assert json.loads(english)["warnings"] == []
