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


TUNE = [
    (["--space", "lora_rank"], ["unknown search space", "did you mean 'lora_rank_alpha'"]),
    (["--space", "missing.yaml"], ["missing.yaml", "expected a YAML file with a search space"]),
    (["--budget=soon"], ["--budget soon", "30m"]),
    (["--budget=-3m"], ["--budget -3m", "above 0"]),
    (["--budget=$5"], ["no price per hour", "--price-per-hour"]),
    (["--budget=1s"], ["--budget of 1 s", "one configuration of lora_rank_alpha", "by estimate", "allowed are"]),
    (["--space", "qlora", "--quantization", "nf4"], ["--quantization nf4", "qlora searches it"]),
    (["--trials", "0"], ["--trials 0: must be 1 or more"]),
    (["--search", "grid", "--trials", "5"], ["--trials 5 with --search grid", "96 configurations"]),
    (["--search", "grid", "--space", "lora_full"], ["combinations; possible are 10,000"]),
    (["--lora", "r=4"], ["--lora r=4: lora_rank_alpha searches it"]),
    (["--lora", "lora_alpha=4"], ["--lora lora_alpha=4: lora_rank_alpha searches it"]),
    (["--train", "learning_rate=0.001"], ["--train learning_rate=0.001: lora_rank_alpha searches it"]),
    (
        ["--space", "lora_variants", "--quantization", "int8"],
        ["lora_variants.yaml, line ", "parameters.lora.", "int8", "leave the value out"],
    ),
    (["--seeds", "-1"], ["--seeds -1: must be 0 to 100"]),
    (["--seeds", "101"], ["--seeds 101: must be 0 to 100"]),
    (["--model", "vader"], ["--model vader", "MiniLM-L6"]),
    (["--dataset", "nowhere"], ["unknown dataset 'nowhere'"]),
    (["apply"], ["tune apply: give the file to write with --config FILE.yaml"]),
    (["apply", "--config", "mine.yaml"], ["no trial with a score"]),
    (["--scheduler", "pbt"], ["argument --scheduler: invalid choice: 'pbt'"]),
    (["--price-per-hour", "cheap"], ["argument --price-per-hour: invalid float value: 'cheap'"]),
]
"""Options of `tune` besides a model and a dataset, and what its message must say."""

CLUSTER = [
    (["run", "quickstart", "--address", "http://10.0.0.1:8265"], "expected HOST:PORT of Ray's head"),
    (["run", "quickstart", "--address", "somewhere"], "expected HOST:PORT"),
    (["run", "quickstart", "--address", "127.0.0.1:1"], "nothing answers there"),
    (["run", "quickstart", "--address", "127.0.0.1:1", "--executor", "inline"], "give one"),
    (["run", "quickstart", "--cluster", "no-such.yaml"], "has no use on this machine alone"),
    (["cluster", "status"], "which cluster? Give --address"),
    (["cluster", "status", "--address", "127.0.0.1:1"], "nothing answers there"),
    (["submit", "--address", "127.0.0.1:8265", "--", "run", "quickstart"], "such as http://127.0.0.1:8265"),
    (["submit", "--address", "http://127.0.0.1:8265"], "submit: no command"),
    (["submit", "--", "run", "quickstart"], "the following arguments are required: --address"),
    (["submit", "--address", "http://127.0.0.1:1", "--working-dir", "/no/such", "--", "models"], "is not a folder"),
]
"""Requests to a cluster that cannot be carried out, and the message."""

CLUSTER_FILES = [
    ("devices: [a]\n", "cluster.yaml, line 1: devices"),
    ("devices:\n  small: {memory: 4}\n", "cluster.yaml, line 2: devices.small.memory: unknown key"),
    ("measure_on: [fast]\n", "cluster.yaml: measure_on names fast; known classes are"),
    ("measure_on: fast\n", "cluster.yaml, line 1: measure_on: expected a list"),
    ("drain_at: 0\n", "cluster.yaml, line 1: drain_at: Input should be greater than or equal to 1 (seen: 0)"),
    ("node_return_s: -1\n", "cluster.yaml, line 1: node_return_s: Input should be greater than or equal to 0"),
    (
        "node_return_s: .nan\n",
        "cluster.yaml, line 1: node_return_s: Input should be greater than or equal to 0 (seen: nan)",
    ),
    ("deadline: {factor: 0}\n", "cluster.yaml, line 1: deadline.factor: Input should be greater than 0"),
    ("deadline: long\n", "cluster.yaml, line 1: deadline: expected keys below it"),
    ("drain: 3\n", "cluster.yaml, line 1: drain: unknown key; did you mean 'drain_at'?"),
    ("- a\n", "cluster.yaml: expected a mapping (`key: value` lines), found a list"),
    ("devices: {x: !!python/name:os.system y}\n", "is not read here; remove it"),
]
"""What a file given with --cluster says, and the message."""

APP = [
    (["--host", "0.0.0.0"], "others could reach the page; give --user NAME"),
    (["--host", ""], "others could reach the page; give --user NAME"),
    (["--host", "0.0.0.0", "--user", "me"], "--user me: MOODBENCH_APP_PASSWORD is not set"),
    (["--user", "me"], "--user me: MOODBENCH_APP_PASSWORD is not set"),
    (["--port", "70000"], "--port 70000: allowed is 1 to 65535"),
    (["--port", "0"], "--port 0: allowed is 1 to 65535"),
    (["--port", "http"], "argument --port: invalid int value: 'http'"),
    (["--allow-host", "a.example", "http://b.example"], "--allow-host 'http://b.example': expected a host name"),
    (["--allow-host", "*"], "--allow-host '*': expected a host name"),
    (["--allow-host", "b.example:443"], "without scheme, port, path and wildcards"),
    (["--store", __file__], "is a file; give a folder"),
    (["--address", "http://head:8265"], "--address 'http://head:8265': expected HOST:PORT of Ray's head"),
    (["--config", "nowhere.yaml"], "nowhere.yaml: no such file or folder"),
]
"""Options of `app`, and the message."""

PATHS = [
    (["leaderboard", "--store", "loop"], "'loop': is no usable path (Symlink loop"),
    (["leaderboard", "--store", "loop/x"], "'loop/x': is no usable path (Symlink loop"),
    (["leaderboard", "--store", "x" * 300], "File name too long"),
    (["leaderboard", "--store", "~no-such-user/x"], "write the folder in full"),
    (["leaderboard", "--store", "a\0b"], "no path has a NUL character"),
    (
        ["plan", "--models", "vader", "--data", "loop", "--text-column", "t", "--label-column", "l"],
        "loop: Too many levels of symbolic links; give the path of a file",
    ),
    (["plan", "--models", "~no-such-user", "--datasets", "icwsm-movie"], "unknown model '~no-such-user'"),
    (["plan", "--models", "/" + "x" * 300, "--datasets", "icwsm-movie"], "unknown model '/xxx"),
    (["plan", "x" * 300 + ".yaml"], "File name too long"),
    (["plan", "loop.yaml"], "loop.yaml: Too many levels of symbolic links"),
    (["catalogue", "models", "--config", "loop.yaml"], "loop.yaml: no such file or folder"),
    (["catalogue", "models", "--config", "x" * 300], "File name too long"),
    (["report", "--output", "loop"], "loop: cannot be written"),
    (["report", "--output", "x" * 300], "File name too long"),
    (["report", "--output", "a.txt"], "a.txt: cannot be written"),
    (["catalogue", "pin", "--output", "loop.yaml", "vader"], "model vader is not from the hub"),
    (["catalogue", "guide", "--output", "a.txt"], "a.txt: cannot be written"),
    (["export-model", "toy", "a.txt"], "toy"),
    (
        ["cluster", "status", "--address", "127.0.0.1:1", "--cluster", "loop.yaml"],
        "--cluster loop.yaml: Too many levels",
    ),
]
"""Paths that no system has, or that hold something else (a.txt is a file, loop a link to itself), and the message."""

RESULTS = [
    (["evaluate", "tpy"], "unknown fit or model in"),
    (["evaluate", "0123456789abcdef0123"], "'0123456789abcdef0123'"),
    (["benchmark", "--models", "tpy"], "did you mean 'toy'?"),
    (["evaluate", "--datasets", "toyset"], "did you mean 'toy-set'?"),
    (["evaluate", "--seeds", "3"], "none of its 1 fits matches"),
    (["benchmark", "--protocol", "ful"], "unknown measuring protocol 'ful': did you mean 'full'?"),
    (["benchmark", "--device", "mps"], "device mps: "),
    (["evaluate", "--store", "nowhere"], "has no fit yet; `moodbench train` or `moodbench run` makes one"),
    (["benchmark", "--store", "nowhere"], "has no fit yet; `moodbench train` or `moodbench run` makes one"),
    (["report", "--store", "nowhere"], "--store nowhere: holds no records"),
    (["mislabelled", "--store", "nowhere"], "--store nowhere: holds no records"),
    (["store", "compact", "--store", "nowhere"], "--store nowhere: holds no records"),
    (["store", "recompute", "--store", "nowhere"], "--store nowhere: holds no records"),
    (["track", "sync", "--store", "nowhere"], "--store nowhere: holds no records"),
    (["report", "--format", "docx"], "argument --format: invalid choice: 'docx'"),
    (["export", "--format", "csv", "pdf"], "argument --format: invalid choice: 'pdf'"),
    (["report", "--weights", "accuracy=2"], "add up to 2; allowed is a sum of 1"),
    (["report", "--composite", "best"], "argument --composite: invalid choice: 'best'"),
    (["leaderboard", "--columns", "speed"], "argument --columns: invalid choice: 'speed'"),
    (["leaderboard", "--weights", "accuracy=1,accuracy=0"], "accuracy"),
    (["leaderboard", "--weights", "accuracy=-1,f1=2"], "allowed is a finite number, 0 or more"),
    (["leaderboard", "extra"], "unrecognized arguments: extra"),
    (["compare", "toy"], "the following arguments are required: B"),
    (["compare", "toy", "toy@7"], "results: '7': known are 0"),
    (["compare", "toy", "toy@x"], "results: 'x': known are 0"),
    (["compare", "toy", "toy", "--rope", "0"], "--rope 0: allowed is more than 0"),
    (["compare", "toy", "toy", "--rope", "nan"], "--rope nan: allowed is more than 0"),
    (["compare", "toy", "toy", "--flips", "-1"], "--flips -1: allowed is 0 or more"),
    (["mislabelled", "--most", "-1"], "--most -1: allowed is"),
    (["mislabelled", "--out", "doubtful.xlsx"], "doubtful.xlsx: allowed is a name that ends in .csv or .json"),
    (["mislabelled", "--dataset", "imdb"], "imdb"),
    (["export-model", "tpy", "out"], "did you mean 'toy'?"),
    (["export-model", "toy", "out"], "is a classical baseline and no transformer"),
    (["catalogue", "fetch", "MiniLM-L66"], "unknown model or dataset 'MiniLM-L66': did you mean 'MiniLM-L6'?"),
    (["catalogue", "pin", "vader"], "catalogue pin: model vader is not from the hub"),
    (["catalogue", "list"], "argument ACTION: invalid choice: 'list'"),
    (["store"], "the following arguments are required: ACTION"),
    (["plan", "quickstart", "--device-class", "rtx-9090"], "unknown device class 'rtx-9090'"),
    (["plan", "quickstart", "--device", "cuda"], "device cuda: "),
    (["doctor", "--config", "nowhere.yaml"], "nowhere.yaml: no such file or folder"),
    (["quickstart"], "argument COMMAND: invalid choice: 'quickstart'"),
    ([], "the following arguments are required: COMMAND"),
    ([*RUN, "--seeds", "9" * 5000], "argument --seeds: "),
    ([*RUN, "--prepare", "stem"], "prepare"),
    ([*RUN, "--augment", "word_dropout=2"], "augment.word_dropout: Input should be less than 1"),
    ([*RUN, "--sampling", "random"], "argument --sampling: invalid choice: 'random'"),
    ([*RUN, "--quantization", "int4"], "argument --quantization: invalid choice: 'int4'"),
]
"""Requests about a store with the fit `toy`, or about what is known, and the message."""
