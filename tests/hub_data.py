"""Small datasets under the real ids, with the columns, class names and traps of the real ones."""

import io
import json

import pandas as pd


def parquet(**columns):
    out = io.BytesIO()
    pd.DataFrame(columns).to_parquet(out, index=False, compression=None)
    return out.getvalue()


def card(config, splits, label_column=None, names=(), text_columns=("text",), other=()):
    """README.md of a repository, whose front matter names data files and class names."""
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split in splits:
        lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    if names:
        lines += ["dataset_info:", f"- config_name: {config}", "  features:"]
        for column in text_columns:
            lines += [f"  - name: {column}", "    dtype: string"]
        for column in other:
            lines += [f"  - name: {column}", "    dtype: int32"]
        lines += [f"  - name: {label_column}", "    dtype:", "      class_label:", "        names:"]
        lines += [f"          '{i}': '{name}'" for i, name in enumerate(names)]
    return "\n".join([*lines, "---", ""]).encode()


def words(tag, i):
    return f"{tag} sentence{i} says thing{i} about item{i}"


def sorted_labels(count, num_labels):
    """Labels as the real files have them: all of one class, then all of the next."""
    return [i * num_labels // count for i in range(count)]


def repository(config, sizes, names, *, text="text", label="label"):
    """Files of a Parquet repository with class names in its card."""
    files = {"README.md": card(config, sizes, label, names, (text,))}
    for split, count in sizes.items():
        texts = [words(split, i) for i in range(count)]
        files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(
            **{text: texts, label: sorted_labels(count, len(names))}
        )
    return files


def sst2():
    files = repository(
        "default", {"train": 400, "validation": 60, "test": 40}, ("negative", "positive"), text="sentence"
    )
    hidden = {"sentence": [words("test", i) for i in range(40)], "label": [-1] * 40}
    files["default/test-00000-of-00001.parquet"] = parquet(**hidden)
    return files


def imdb():
    files = repository("plain_text", {"train": 400, "test": 80, "unsupervised": 50}, ("neg", "pos"))
    train = [words("train", i) for i in range(400)]
    train[0] = words("test", 0).upper() + " !"  # equal to a test text after normalisation
    train[1] = words("test", 1) + " again"  # nearly alike
    files["plain_text/train-00000-of-00001.parquet"] = parquet(text=train, label=sorted_labels(400, 2))
    unsupervised = {"text": [words("u", i) for i in range(50)], "label": [-1] * 50}
    files["plain_text/unsupervised-00000-of-00001.parquet"] = parquet(**unsupervised)
    return files


def amazon():
    names, sizes = ("negative", "positive"), {"train": 400, "test": 80}
    files = {"README.md": card("amazon_polarity", sizes, "label", names, ("title", "content"))}
    for split, count in sizes.items():
        columns = {"label": sorted_labels(count, 2), "title": [f"title{i}" for i in range(count)]}
        columns["content"] = [words(split, i) for i in range(count)]
        files[f"amazon_polarity/{split}-00000-of-00001.parquet"] = parquet(**columns)
    return files


def sst5():
    names = ("very negative", "negative", "neutral", "positive", "very positive")
    files = {"README.md": b"# no front matter\n"}
    for file, count in {"train": 500, "dev": 100, "test": 100}.items():
        rows = [{"text": words(file, i), "label": i % 5, "label_text": names[i % 5]} for i in range(count)]
        files[f"{file}.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return files


def phrasebank():
    files = {"README.md": b"# a copy in Parquet\n"}
    for split, count in {"train": 300, "validation": 60, "test": 60}.items():
        labels = sorted_labels(count, 3)
        columns = {"sentiment": labels, "sentence": [words(split, i) for i in range(count)], "label": labels}
        files[f"data/{split}-00000-of-00001.parquet"] = parquet(**columns)
    return files


THREE = {"train": 400, "validation": 60, "test": 60}
REPOSITORIES = {
    "imdb": ("stanfordnlp/imdb", imdb),
    "sst2": ("stanfordnlp/sst2", sst2),
    "amazon": ("fancyzhx/amazon_polarity", amazon),
    "yelp": ("fancyzhx/yelp_polarity", lambda: repository("plain_text", {"train": 400, "test": 80}, ("1", "2"))),
    "rotten_tomatoes": (
        "cornell-movie-review-data/rotten_tomatoes",
        lambda: repository("default", THREE, ("neg", "pos")),
    ),
    "tweet_eval": (
        "cardiffnlp/tweet_eval",
        lambda: repository("sentiment", THREE, ("negative", "neutral", "positive")),
    ),
    "financial_phrasebank": ("lmassaron/FinancialPhraseBank", phrasebank),
    "sst5": ("SetFit/sst5", sst5),
}


def disney_csv():
    """The Kaggle file's columns and encoding, with an id that comes twice and a rare letter of Windows."""
    lines = ["Review_ID,Rating,Year_Month,Reviewer_Location,Review_Text,Branch"]
    branches = ("Disneyland_HongKong", "Disneyland_California", "Disneyland_Paris")
    for i in range(300):
        lines.append(f'{i},{i % 5 + 1},missing,Australia,"It’s caf\xe9 {words("park", i)}",{branches[i % 3]}')
    lines.append('8,5,2019-4,France,"It’s caf\xe9 park sentence8 once more",Disneyland_Paris')
    return "\r\n".join(lines).encode("cp1252")
