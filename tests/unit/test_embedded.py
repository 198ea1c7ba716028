import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pyarrow.parquet as pq
import pytest
from build_embedded import build_table, main, rating_stratum

from moodbench.data.embedded import EMBEDDED, read_embedded
from moodbench.data.examples import SPLITS
from moodbench.errors import DataError, UnknownNameError

NUM_ROWS = {"icwsm-movie": 10605, "icwsm-product": 3708, "icwsm-tweets": 4200}


@pytest.fixture(scope="module", params=EMBEDDED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def rows(name):
    return read_embedded(name).to_pylist()


def test_the_schema_is_the_documented_one(name):
    assert {field.name: str(field.type) for field in read_embedded(name).schema} == {
        "source_id": "string",
        "text": "string",
        "mean_rating": "double",
        "published_mean": "double",
        "rating_counts": "fixed_size_list<element: int32>[9]",
        "group": "string",
        "split": "string",
    }


def test_every_published_sentence_is_there_once(name, rows):
    assert len(rows) == len({row["source_id"] for row in rows}) == NUM_ROWS[name]
    assert all(row["text"] and not row["text"].endswith("\r") for row in rows)


def test_the_mean_is_that_of_15_to_99_counted_ratings(rows):
    for row in rows:
        given = [rating for rating, num in zip(range(-4, 5), row["rating_counts"], strict=True) for _ in range(num)]
        assert 15 <= len(given) <= 99
        assert row["mean_rating"] == sum(given) / len(given)


def test_only_199_tweets_were_published_with_another_mean(name, rows):
    other = [row for row in rows if abs(row["mean_rating"] - row["published_mean"]) > 1e-6]
    assert len(other) == (199 if name == "icwsm-tweets" else 0)
    assert all(92 <= sum(row["rating_counts"]) <= 99 for row in other)


def test_the_file_says_where_it_comes_from(name):
    metadata = {key.decode(): value.decode() for key, value in read_embedded(name).schema.metadata.items()}
    assert metadata["name"] == name
    assert metadata["licence"] == "MIT"
    assert "Hutto" in metadata["citation"]
    assert "vaderSentiment 0.5" in metadata["provenance"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in json.loads(metadata["source_sha256"]).values())
    assert metadata["title"] and metadata["split_rule"]


def test_no_group_is_on_two_sides(rows):
    assert len({(row["group"], row["split"]) for row in rows}) == len({row["group"] for row in rows})


def test_no_product_review_is_on_two_sides():
    rows = read_embedded("icwsm-product").to_pylist()
    side = {(row["source_id"].split("_")[0], row["split"]) for row in rows}
    assert len(side) == len({review for review, _ in side}) == 300


def test_no_near_duplicates_are_on_two_sides(rows):
    """Another route than the builder's: an inverted index over each text's rarest words, and plain sets.

    Sets A and B with a Jaccard similarity of 0.8 share at least 0.8 |A| words, so they share one of any
    |A| - ceil(0.8 |A|) + 1 words of A, and the same for B; of the rarest ones in a common order, both share one.
    """
    norms = [" ".join(re.sub(r"[\W_]+", " ", row["text"].casefold()).split()) for row in rows]
    words = [set(norm.split()) for norm in norms]
    sides_of_norm, rarity, index = {}, Counter(w for ws in words for w in ws), {}
    for number, (norm, row) in enumerate(zip(norms, rows, strict=True)):
        if norm:
            assert sides_of_norm.setdefault(norm, row["split"]) == row["split"], row["text"]
        size = len(words[number])
        if size >= 4:
            for word in sorted(words[number], key=lambda w: (rarity[w], w))[: size - -(-size * 4 // 5) + 1]:
                index.setdefault(word, []).append(number)
    near = {
        (a, b)
        for numbers in index.values()
        for a, b in combinations(numbers, 2)
        if 5 * len(words[a] & words[b]) >= 4 * len(words[a] | words[b])
    }
    assert near, "the texts do hold near-duplicates"
    assert all(rows[a]["split"] == rows[b]["split"] and rows[a]["group"] == rows[b]["group"] for a, b in near)


@pytest.mark.parametrize(
    "label",
    [
        lambda mean: 0 if abs(mean) < 0.5 else mean / abs(mean),
        lambda mean: 0 if abs(mean) < 0.05 else mean / abs(mean),
    ],
    ids=["two classes around a neutral band", "three classes"],
)
def test_each_class_is_shared_out_as_the_whole_is(name, rows, label):
    tolerance = 0.03 if name == "icwsm-product" else 0.015
    for value in (-1, 0, 1):
        sides = [row["split"] for row in rows if label(row["mean_rating"]) == value]
        for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
            assert sides.count(split) / len(sides) == pytest.approx(share, abs=tolerance), (value, split)


def test_an_unknown_name_suggests_a_known_one():
    with pytest.raises(UnknownNameError, match="did you mean 'icwsm-movie'"):
        read_embedded("icwsm-movies")


def test_importing_the_package_loads_no_pyarrow():
    code = "import sys, moodbench.data.embedded; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("mean", "stratum"), [(-4, -2), (-0.5, -2), (-0.49, -1), (-1 / 20, -1), (0.0, 0), (1 / 20, 1), (0.5, 2)]
)
def test_strata_are_cut_at_a_twentieth_and_a_half(mean, stratum):
    assert rating_stratum(mean) == stratum


BOM = b"\xef\xbb\xbf"


@pytest.fixture
def source_dir(tmp_path):
    """A made-up source in the original format: CRLF, tabs, a byte order mark, no line end after the last line."""
    for stem, ids in {
        "movieReviewSnippets": ["1", "2", "3"],
        "amazonReviewSnippets": ["7_1", "7_2", "8_1"],
        "tweets": ["1", "2", "3"],
    }.items():
        texts = ["Cafe\u0301 &amp; bar, good ", "Dull.\u0085Very dull", "so so"]
        truth = [f"{i}\t{mean}\t{text}" for i, mean, text in zip(ids, [9.5, -2, 0], texts, strict=True)]
        ratings = [f"{i}\t0\t0\t{given}" for i, given in zip(ids, [[4, 3, 3], [-4, -2, 0], [0, 0, 0]], strict=True)]
        (tmp_path / f"{stem}_GroundTruth.txt").write_bytes("\r\n".join(truth).encode())
        (tmp_path / f"{stem}_anonDataRatings.txt").write_bytes(BOM + "\r\n".join(reversed(ratings)).encode())
    return tmp_path


def test_the_original_format_is_read_without_touching_the_text(source_dir):
    first, second, third = build_table("icwsm-product", source_dir).to_pylist()
    assert first["source_id"] == "7_1"
    assert first["text"] == "Caf\u00e9 &amp; bar, good "
    assert (first["mean_rating"], first["published_mean"]) == (10 / 3, 9.5)
    assert first["rating_counts"] == [0, 0, 0, 0, 0, 0, 0, 2, 1]
    assert second["text"] == "Dull.\u0085Very dull"
    assert (first["group"], second["group"], third["group"]) == ("7_1", "7_1", "8_1")
    assert first["split"] == second["split"]


def test_building_twice_gives_the_same_bytes(source_dir, tmp_path):
    for out in ("one", "two"):
        (tmp_path / out).mkdir()
        main([str(source_dir), str(tmp_path / out)])
    for name in EMBEDDED:
        assert (tmp_path / "one" / f"{name}.parquet").read_bytes() == (
            tmp_path / "two" / f"{name}.parquet"
        ).read_bytes()


def test_the_metadata_names_the_bytes_of_the_source(source_dir, tmp_path):
    (tmp_path / "out").mkdir()
    main([str(source_dir), str(tmp_path / "out")])
    stored = json.loads(pq.read_schema(tmp_path / "out" / "icwsm-tweets.parquet").metadata[b"source_sha256"])
    assert stored == {
        file: hashlib.sha256((source_dir / file).read_bytes()).hexdigest()
        for file in ("tweets_GroundTruth.txt", "tweets_anonDataRatings.txt")
    }


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tweets_anonDataRatings.txt", "1\t0\t0\t[0]\r\n2\t0\t0\t[0]", "no ratings for id '3'"),
        ("tweets_anonDataRatings.txt", "1\t0\t0\t[5]\r\n2\t0\t0\t[0]\r\n3\t0\t0\t[0]", "id '1'.*from -4 to 4"),
        ("tweets_GroundTruth.txt", "1\t0\tone", "ids without a sentence: 2, 3"),
        ("tweets_GroundTruth.txt", "1\t0\tone\r\n2 two", "line 2: 1 tab-separated fields, expected 3"),
    ],
)
def test_a_damaged_source_is_refused_and_says_where(source_dir, file, content, message):
    (source_dir / file).write_text(content, newline="")
    with pytest.raises(DataError, match=message):
        build_table("icwsm-tweets", source_dir)
