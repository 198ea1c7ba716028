"""What a person can get wrong in a catalogue of their own, and in a spec: rows of the table in test_bad_input.py."""

CATALOGUES = [
    ("training:\n  train:\n    learning_rate: .nan\n", "overlay.yaml, line 3: training.train.learning_rate"),
    ("training:\n  train:\n    learning_rate: .inf\n", "line 3: training.train.learning_rate"),
    ("training:\n  train:\n    learning_rate: -2e-4\n", "greater than 0 (seen: -0.0002)"),
    ("training:\n  train:\n    epochs: many\n", "line 3: training.train.epochs"),
    ("training:\n  train:\n    learningrate: 2e-4\n", "line 3: training.train.learningrate: unknown key"),
    ("training:\n  lora:\n    lora_dropout: 1.5\n", "less than 1 (seen: 1.5)"),
    ("trainig:\n  lora: {}\n", "did you mean 'training'?"),
    ("models:\n  mine: {method: lora, licence: MIT, description: x}\n", "needs `source`"),
    ("models:\n  vader:\n    train: {learning_rate: 1}\n    train: {}\n", "line 4: key 'train' is given twice"),
    ("models: [vader]\n", "line 1: models: expected keys below it"),
    ("- a\n- b\n", "expected a mapping (`key: value` lines)"),
    (
        "training: {train: [\n",
        "overlay.yaml, line 2: expected the node content, but found '<stream end>'; expected YAML",
    ),
    (
        "datasets:\n  mine: {embedded: x, labels: [a], neutral_band: 0, licence: x, citation: x, description: x}\n",
        "line 2: datasets.mine: labels: 2 (neutral items are left out) or 3 are possible, given ['a']",
    ),
    ("datasets:\n  icwsm-tweets: {embedded: icwsm-tweet}\n", "did you mean 'icwsm-tweets'?"),
    (
        "models:\n  MiniLM-L6:\n    train:\n      lerning_rate: 1\n",
        "line 4: models.MiniLM-L6.train.lerning_rate: unknown key; did you mean 'learning_rate'",
    ),
    (
        "published:\n  BERT-tiny:\n  - {dataset: sst2, split: dev, accuracy: 0.9, method: x, source: y}\n",
        "line 3: published.BERT-tiny.0.accuracy: Input should be greater than 1 (seen: 0.9)",
    ),
    (
        "published:\n  BERT-tny: [{dataset: sst2, split: dev, accuracy: 90, method: x, source: y}]\n",
        "line 2: published.BERT-tny: 'BERT-tny': did you mean 'BERT-tiny'?",
    ),
    (
        "published:\n  BERT-tiny: [{dataset: sst3, split: dev, accuracy: 90, method: x, source: y}]\n",
        "line 2: published.BERT-tiny.0.dataset: 'sst3': did you mean 'sst5'?",
    ),
    (
        "published:\n  BERT-tiny: [{dataset: sst2, split: dev, acuracy: 90, method: x, source: y}]\n",
        "published.BERT-tiny.0.acuracy: unknown key; did you mean 'accuracy'?",
    ),
    ("presets:\n  quickstart:\n    lora: {rr: 1}\n", "line 3: presets.quickstart.lora.rr: unknown key"),
    *(
        (f"{section}:\n  {name!r}: {{}}\n", f"line 2: {section}.{name}: {said}")
        for section in ("models", "datasets", "presets", "prompts", "devices", "families")
        for name, said in (
            ("../../up", "allowed are letters, digits, spaces"),
            ("/etc/up", "allowed are letters, digits, spaces"),
            ("..", "allowed are letters, digits, spaces"),
            ("x" * 121, "has 121 bytes; allowed are 120"),
            ("nul", "is the name of a device on Windows"),
        )
    ),
    ("training:\n  recipes:\n    ../up: {}\n", "training.recipes.../up: allowed are letters"),
    (
        "models:\n  mine: {method: lora, licence: MIT, description: x, source: {hub: ../..}}\n",
        "models.mine.source.hub: allowed are",
    ),
    (
        "models:\n  mine: {method: lora, licence: MIT, description: x, source: {hub: a/b, revision: ../../x}}\n",
        "source.revision: allowed are",
    ),
    *(
        (f"datasets:\n  mine: {{{source}}}\n", said)
        for source, said in (
            ("hub: {id: ../.., text_columns: [t], label_column: l}", "datasets.mine.hub.id: allowed are"),
            (
                "hub: {id: a/b, revision: ../../../x, text_columns: [t], label_column: l}",
                "datasets.mine.hub.revision: allowed are",
            ),
            (
                "file: {kaggle: ../.., path: a.csv, text_column: t, label_column: l}",
                "datasets.mine.file.kaggle: allowed are",
            ),
            (
                "file: {kaggle: a/b, path: ../a.csv, text_column: t, label_column: l}",
                "'../a.csv' is not inside the Kaggle dataset",
            ),
            (
                "file: {kaggle: a/b, path: /a.csv, text_column: t, label_column: l}",
                "'/a.csv' is not inside the Kaggle dataset",
            ),
        )
    ),
    (
        "models:\n  MiniLM-L6:\n    licence: MIT\n    colour: red\n",
        "overlay.yaml, line 4: models.MiniLM-L6.colour: unknown key;",
    ),
    ("\nmodel:\n  a: 1\n", "overlay.yaml, line 2: 'model': did you mean 'models'?"),
    (
        "models:\n  MiniLM-L6-probe:\n    probe: {pool: cls}\n",
        "line 3: models.MiniLM-L6-probe.probe.pool: unknown key; did you mean 'pooling'?",
    ),
    (
        "models: {MiniLM-L6: {train: {epochs: 1e9}}}",
        "models.MiniLM-L6.train.epochs: Input should be less than or equal to 1000",
    ),
    ("training: {lora: {r: 0}}", "line 1: training.lora.r: Input should be greater than or equal to 1"),
    ("training: {train: {warmup_share: 1}}", "training.train.warmup_share: Input should be less than 1"),
    (b"models: \xff\xfe", "overlay.yaml: not UTF-8"),
    ("models: {MiniLM-L6: {family: gpt}}", "models.MiniLM-L6.family 'gpt' is not one of"),
    ("evaluation: {protocol: fast}", "protocol 'fast' is not one of ['full', 'quick']"),
    ("models: {MiniLM-L6: {source: {hub: a/b}}}", "give exactly one of package, hub, path"),
    (
        "models:\n  MiniLM-L6-probe:\n    lora: {r: 4}\n",
        "line 2: models.MiniLM-L6-probe: method linear-probe does not use lora",
    ),
    ("models: {vader: {source: {path: /w}}}", "models.vader: baseline vader does not use source"),
    (
        "datasets: {icwsm-movie: {labels: [a, b, c, d]}}",
        "datasets.icwsm-movie: labels: 2 (neutral items are left out) or 3 are possible",
    ),
    *(
        (f"datasets:\n  x: {values}\n", f"overlay.yaml, line 2: datasets.x{said}")
        for values, said in (
            ("{}", ": give exactly one of embedded, file, hub; given: none"),
            (
                "{embedded: icwsm-movie, file: {path: a, text_column: t, label_column: l}}",
                ": give exactly one of embedded, file, hub; given: embedded, file",
            ),
            (
                "{file: {path: a, text_column: t, label_column: l}, neutral_band: 1}",
                ": neutral_band: only for embedded datasets",
            ),
            ("{file: {path: a, text_column: t}}", ".file.label_column: Field required"),
            ("{file: {path: a, text_column: t, label_column: l, colour: red}}", ".file.colour: unknown key"),
            (
                "{embedded: icwsm-movie, labels: [a, b]}",
                ": an embedded text needs citation, description, licence, neutral_band",
            ),
        )
    ),
]
"""What a file given with --config says, and the message."""

SPECS = [
    ("models: [vader]\ndatasets: [icwsm-tweets]\nseed: 3\n", "spec.yaml, line 3: seed: unknown key; did you mean 'seeds'? (seen: 3)"),
    ("models: [vader]\ndatasets: [icwsm-tweets]\ntrain:\n  lerning_rate: 1\n",
     "spec.yaml, line 4: train.lerning_rate: unknown key; did you mean 'learning_rate'? (seen: 1)"),
    ("models: [vader]\ndatasets: [icwsm-tweets]\nlora: {alpha: 1}\n", "spec.yaml, line 3: lora.alpha: unknown key; did you mean 'lora_alpha'?"),
    ("models: [vader]\ndatasets: [icwsm-tweets]\ntext:\n  max_length: 4\n", "spec.yaml, line 4: text.max_length: Input should be greater than or"),
    ("models: [vader\n", "spec.yaml, line 2: expected ',' or ']'"),
    ("", "spec.yaml: models: Field required"),
    ("models: [vader]", "spec.yaml, line 1: datasets: Field required, or `data` with a file of your own"),
    ("datasets: [d]\nmodels: []", "spec.yaml, line 2: models: Tuple should have at least 1 item"),
    ("models: [vader, vader]\ndatasets: [d]", "line 1: models: given more than once: vader"),
    ("models: [a]\ndatasets: [d]\nseeds: [1, 2, 1]", "line 3: seeds: given more than once: 1"),
    ("models: [a]\ndatasets: [d]\nseeds:\n  - 0\n  - -1", "line 5: seeds.1: Input should be greater than or equal to 0 (seen: -1)"),
    ("models: [a]\ndatasets: [d]\nseeds: [2147483648]", "line 3: seeds.0: Input should be less than 2147483648"),
    ("models: [a]\ndatasets: [d]\nseeds: []", "line 3: seeds: Tuple should have at least 1 item"),
    ("models: [a]\ndatasets: [d]\nseeds: 0", "line 3: seeds: a number of seeds is 1 to 1000 (seen: 0)"),
    ("models: [a]\ndatasets: [d]\nseeds: 99999999", "line 3: seeds: a number of seeds is 1 to 1000"),
    ("models: [a]\ndatasets: [d]\nneutral_band: .inf", "line 3: neutral_band: Input should be a finite number"),
    ("models: [a]\ndatasets: [d]\ndevice: tpu", "(seen: 'tpu')"),
    ("models: [a]\ndata: a.csv", "spec.yaml: data 'a.csv' needs text_column and label_column"),
    ("models: [a]\ndatasets: [d]\nlabels: [x, y]", "spec.yaml: labels without data; add data"),
    ("models: [a]\ndata: hub:a/b", "data 'hub:a/b' needs text_column and label_column"),
    (
        "models: [a]\ndata: hub:a/b\ntext_column: t\nlabel_column: l\nsplit_column: s",
        "data 'hub:a/b': split_column: only for files; use splits to name the splits of a hub dataset",
    ),
    ("models: [a]\ndata: a.csv\ntext_column: t\nlabel_column: l\nsplits: {train: x}", "data 'a.csv': splits: only for hub datasets"),
    ("models: [a]\ndata: hub:a/b\ntext_column: t\nlabel_column: l\nsplits: {train: x, dev: y}", "splits.dev"),
    ("models: [a]\ndata: hub:a/b/c\ntext_column: t\nlabel_column: l", "(seen: 'a/b/c')"),
    (
        "models: [a]\ndata: a.csv\ntext_column: t\nlabel_column: l\nlabels: [x, x]",
        "labels: 2, 3 or 5 different ones are possible, given ['x', 'x']",
    ),
    ("models: [a]\ndata: a.csv\ntext_column: t\nlabel_column: l\nlabel_map: {1: x}", "label_map: makes 1 classes (x)"),
    ("models: [a]\ndata: a.csv\ntext_column: t\nlabel_column: l\nlabel_map: {1: x, 2: [y]}", "line 5: label_map.2: "),
    ("models: [a]\ndatasets: [d]\nlora:\n  rank: 2", "line 4: lora.rank: unknown key;"),
    ("models: [a]\ndatasets: [d]\ntext: {maxlength: 64}", "line 3: text.maxlength: unknown key; did you mean 'max_length'?"),
    ("models: [a]\ndatasets: [d]\naugment:\n  word_drop: 0.1", "line 4: augment.word_drop: unknown key; did you mean 'word_dropout'?"),
    ("models: [a]\ndatasets: [d]\ntrain: {learning_rate: .nan}", "train.learning_rate: Input should be a finite number (seen: nan)"),
    ("models: [vader]\ndatasets: [d]\nlora: {r: 0}", "line 3: lora.r: Input should be greater than or equal to 1 (seen: 0)"),
    ("models: [a]\ndatasets: [d]\ntrain: fast", "line 3: train: expected keys below it (seen: 'fast')"),
    ("models: [a]\ndatasets: [d]\nlora:", "line 3: lora: expected keys below it (seen: None)"),
    ("models: vader\ndatasets: [d]", "line 1: models: expected a list: write [vader] (seen: 'vader')"),
]  # fmt: skip
"""What a spec file says, and the message of run and of plan."""

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    ("- a\n- b", "overlay.yaml: expected a mapping (`key: value` lines), found a list"),
    ("word", "overlay.yaml: expected a mapping (`key: value` lines), found a str"),
    ("a: [1, 2", "overlay.yaml, line 1: "),
    ("ok: 1\na:\n\t- b", "overlay.yaml, line 3: "),
    ("a: *nowhere", "overlay.yaml, line 1: found undefined alias"),
    ("? [1, 2]\n: 3", "overlay.yaml, line 1: keys must be scalars"),
    ("a: \x07", "overlay.yaml: unacceptable character"),
    ("a: !!python/object/apply:os.system [ls]", "tag 'tag:yaml.org,2002:python/object/apply:os.system' is not read"),
    ("a: !!python/object:os.system x", "python/object:os.system' is not read here; remove it"),
    ("a: !!int abc", "overlay.yaml, line 1: tag 'tag:yaml.org,2002:int' is not read here; remove it"),
    ("a: 1\nb: !!timestamp later", "overlay.yaml, line 2: tag"),
    ("a: !!bool maybe", "overlay.yaml, line 1: tag"),
    ("a: !!float ''", "overlay.yaml, line 1: tag"),
    ("!!map [a]", "overlay.yaml, line 1: tag"),
    ("a: !!binary '='", "overlay.yaml, line 1: tag"),
    ("a: !!set {a, b}", "overlay.yaml, line 1: tag"),
    ("a: !own b", "overlay.yaml, line 1: tag '!own' is not read"),
    ("a: &a [*a]", "overlay.yaml, line 1: a value contains itself"),
    ("a: &a {<<: *a}", "a value contains itself"),
    ("<<: 3", "expected a mapping"),
    (LAUGHS, "aliases make more than 100,000 values"),
    ("a: " + "[" * 5000, "nested too deeply"),
    ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ("a: " + "{a: " * 400 + "1" + "}" * 400, "nested too deeply"),
    ("a: " + "9" * 5000, "Exceeds the limit"),
    ('a: "\\0"', "character '\\x00' is not allowed"),
    ('a: "\\ud800"', "character '\\ud800' is not allowed"),
    ("? [a]\n: b", "overlay.yaml, line 1: keys must be scalars"),
    (
        "training:\n  lora:\n    r: 8\n    lora_alpha: 16\n    r: 4\n",
        "overlay.yaml, line 5: key 'r' is given twice, first in line 3",
    ),
]
"""What YAML can hide, in a file given with --config, and the message."""
