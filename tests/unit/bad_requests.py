"""What a person can ask for that cannot be done: rows of the table in test_bad_input.py."""

from moodbench.cli.commands import MOVED

RUN = ["run", "--models", "vader", "--datasets", "icwsm-tweets"]
FULL = ["--executor", "inline"]

REQUESTS = [
    (
        ["run", "quickstat"],
        "unknown preset 'quickstat': did you mean 'quickstart'? known are embedded, production, quickstart, research",
    ),
    (["run", "--models", "vadr", "--datasets", "icwsm-tweets"], "unknown model 'vadr': did you mean 'vader'?"),
    (["run", "--models", "vader", "--datasets", "icwsm-tweet"], "unknown dataset 'icwsm-tweet': did you mean"),
    (
        ["run"],
        "nothing to run; give a preset (quickstart, embedded, ultra-fast, production, research), a spec file, or both --models and --datasets",
    ),
    (["run", "--models", "vader"], "run: nothing to run; give a preset (quickstart"),
    (["run", "nowhere.yaml"], "nowhere.yaml: No such file or directory; expected a YAML file"),
    ([*RUN, "--seeds", "0"], "command line: seeds: a number of seeds is 1 to 1000 (seen: 0)"),
    (
        [*RUN, "--max-train-examples", "1"],
        "max_train_examples: Input should be greater than or equal to 2 (seen: 1)",
    ),
    ([*RUN, "--neutral-band", "nan"], "command line: neutral_band: Input should be a finite number (seen: nan)"),
    ([*RUN, "--neutral-band", "-1"], "neutral_band: Input should be greater than or equal to 0"),
    ([*RUN, "--neutral-band", "4"], "has no example of class negative"),
    ([*RUN, "--protocol", "quik"], "unknown measuring protocol 'quik': did you mean 'quick'?"),
    ([*RUN, "--config", "nowhere.yaml"], "nowhere.yaml: no such file or folder"),
    (["run", "--models", "vader", "vader", "--datasets", "icwsm-tweets"], "given more than once: vader"),
    (["train", "--model", "vader"], "train: needs exactly one of --dataset and --data; given: neither"),
    (["train", "--model", "vadr", "--dataset", "icwsm-tweets"], "unknown model 'vadr': did you mean 'vader'?"),
    (
        ["train", "--model", "vader", "--dataset", "icwsm-tweets", "--seed", "-1"],
        "command line: seeds.0: Input should be greater than or equal to 0 (seen: -1)",
    ),
    ([*RUN, "--train", "epochs"], "--train: 'epochs' is not FIELD=VALUE; expected such as epochs=3"),
    ([*RUN, "--train", "epochs=2", "epochs=3"], "--train: 'epochs' is given twice ('2' and '3'); give it once"),
    ([*RUN, "--train", "epoch=3"], "command line: train.epoch: unknown key; did you mean 'epochs'?"),
    ([*RUN, "--train", "epochs=[1"], "--train epochs=[1, line 1:"),
    ([*RUN, "--lora", "r=0"], "command line: lora.r: Input should be greater than or equal to 1 (seen: 0)"),
    ([*RUN[:3], "--data", "hub:a/b", "--splits", "train"], "--splits: 'train' is not SPLIT=NAME; expected such as"),
    (
        [*RUN[:3], "--data", "hub:a/b", "--splits", "train=a,train=b"],
        "--splits: 'train' is given twice ('a' and 'b')",
    ),
    (
        ["catalogue", "fetch"],
        "catalogue fetch: nothing to fetch; name models or datasets, or give --data hub:OWNER/NAME",
    ),
    (["train-all", "--models", "vader"], "train-all: nothing to run; give a preset"),
    (["leaderboard", "--weights", "accuracy=0.5"], "add up to 0.5; allowed is a sum of 1"),
    (["leaderboard", "--weights", "speed=1"], "unknown weight 'speed'"),
    (["leaderboard", "--weights", "accuracy"], "is not NAME=NUMBER"),
    (["leaderboard", "--weights", "accuracy=nan,f1=1"], "allowed is a finite number, 0 or more"),
    (
        ["leaderboard", "--store", "nope://bucket"],
        "--store 'nope://bucket': Unrecognized filesystem type in URI: nope://bucket; give a folder or a URI such as",
    ),
    (["leaderboard", "--dataset", "imdb"], "unknown dataset in"),
    (["compare", "vader", "majority"], "unknown model in"),
    (
        [*RUN, "--train", "epochs=1e9"],
        "command line: train.epochs: Input should be less than or equal to 1000 (seen: 1000000000.0)",
    ),
    (
        [*RUN, "--train", "learning_rate=1e6"],
        "train.learning_rate: Input should be less than or equal to 1 (seen: 1000000.0)",
    ),
    (
        [*RUN, "--train", "effective_batch_size=1e12"],
        "train.effective_batch_size: Input should be less than or equal to 65536 (seen:",
    ),
    ([*RUN, "--lora", "lora_dropout=1"], "lora.lora_dropout: Input should be less than 1 (seen: 1)"),
    ([*RUN, "--lora", "lora_alpha=1e30"], "lora.lora_alpha: Input should be less than or equal to 10000 (seen: 1e+30)"),
    (
        [*RUN, "--text", "max_length=1000000000"],
        "text.max_length: Input should be less than or equal to 131072 (seen: 1000000000)",
    ),
    (
        ["plan", *RUN[1:], "--train", "epochs=1e9"],
        "train.epochs: Input should be less than or equal to 1000 (seen: 1000000000.0)",
    ),
    (
        ["plan", *RUN[1:], "--train", "lerning_rate=1"],
        "train.lerning_rate: unknown key; did you mean 'learning_rate'? (seen: 1)",
    ),
    (
        ["plan", *RUN[1:], "--lora", "r=3", "init_lora_weights=orthogonal"],
        "the request: lora: init_lora_weights orthogonal with r 3: needs",
    ),
    ([*RUN, "--recipe", "clasic"], "unknown recipe 'clasic': did you mean 'classic'?"),
    ([*RUN, "--prompt", "reviw"], "unknown prompt 'reviw': did you mean 'review'?"),
    (
        [*RUN, "--prompt", "nowhere.yaml"],
        "--prompt nowhere.yaml: No such file or directory; expected a YAML file with template",
    ),
    ([*RUN, "--head", "words"], "argument --head: invalid choice: 'words'"),
    (
        ["run", "--models", "MiniLM-L6", "--datasets", "icwsm-tweets", "--head", "label-words"],
        "was saved without a language-model head, which label words need; use --head classification",
    ),
    (["recipes", "chek"], "argument ACTION: invalid choice: 'chek'"),
    (["recipes", "check", "BERT-tny"], "unknown model 'BERT-tny': did you mean 'BERT-tiny'?"),
    (
        ["recipes", "check", "vader"],
        "recipes check: model vader: method baseline has no recipe; give a fine-tuned model with published results: BERT-tiny,",
    ),
    (
        ["recipes", "check", "SmolLM2-135M-embedded-8-shot"],
        "recipes check: model SmolLM2-135M-embedded-8-shot: method prompted has no recipe; give a fine-tuned model",
    ),
    (
        ["recipes", "check", "MiniLM-L6"],
        "recipes check: model MiniLM-L6: has no published results in the catalogue; give one that has: BERT-tiny,",
    ),
    (
        ["recipes", "check", "BERT-tiny", "--dataset", "imdb"],
        "recipes check: --dataset imdb: no published result of BERT-tiny on it; there are results on sst2",
    ),
    (["recipes", "check", "BERT-tiny", "--dataset", "sst3"], "unknown dataset 'sst3': did you mean 'sst5'?"),
    (
        ["recipes", "check", "BERT-tiny", "--data", "hub:a/b", "--text-column", "x", "--label-column", "y"],
        "recipes check: --data hub:a/b: only datasets of the catalogue have published results; use --dataset with sst2",
    ),
    (["recipes", "check", "BERT-tiny", "--recipe", "clasic"], "unknown recipe 'clasic': did you mean 'classic'?"),
    (
        ["recipes", "check", "BERT-tiny", "--seeds", "0"],
        "command line: seeds: a number of seeds is 1 to 1000 (seen: 0)",
    ),
    *(([old], f"moodbench {old} is now `moodbench {new}`") for old, new in MOVED.items()),
    (
        [*RUN, "--until", "trained"],
        "argument --until: invalid choice: 'trained' (choose from 'fit', 'evaluate', 'measure')",
    ),
    (
        [*RUN, "--force", "--until", "fit"],
        "run: --force and --until fit: --force repeats all phases of the same fits; leave one out",
    ),
    ([*RUN, "--executor", "slurm"], "argument --executor: invalid choice: 'slurm'"),
]
"""The command line, and the message."""

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
]  # fmt: skip
"""What a spec file says, and the message of run and of plan."""
