"""What a person can get wrong in a search space: rows of the table in test_bad_input.py."""

GOOD = """description: x
parameters:
  lora.r: {distribution: power_of_two, low: 2, high: 8}
  lora.alpha_over_r: {distribution: choice, values: [1, 2]}
"""

# name -> the space file of a search of MiniLM-L3 (a BERT of width 384), and what its message must say besides the file
SPACES = {
    "empty file": ("", ("parameters", "Field required")),
    "unknown family": (
        GOOD + "families:\n  lama: {lora.r: {distribution: choice, values: [2, 4]}}\n",
        ("line 6", "unknown family 'lama'", "did you mean 'llama'"),
    ),
    "a family with another parameter": (
        GOOD + "families:\n  bert: {lora.rr: {distribution: choice, values: [2, 4]}}\n",
        ("line 6", "families.bert.lora.rr", "did you mean 'lora.r'"),
    ),
    "rank above the width in a family": (
        GOOD + "families:\n  bert:\n    lora.r: {distribution: choice, values: [2, 400]}\n",
        ("line 7", "families.bert.lora.r", "400", "up to 384"),
    ),
    "unknown quantisation": (
        GOOD + "  quantization: {distribution: choice, values: [none, int4]}\n",
        ("line 5", "parameters.quantization", "'int4'", "none, int8, nf4"),
    ),
    "an odd rank that orthogonal cannot have": (
        GOOD.replace("low: 2", "low: 1")
        + "  lora.init_lora_weights: {distribution: choice, values: [default, orthogonal]}\n",
        ("line 5", "parameters.lora.r 1", "lora.init_lora_weights 'orthogonal'", "even rank", "`when`"),
    ),
    "two that exclude each other": (
        GOOD
        + "  lora.use_dora: {distribution: choice, values: [false, true]}\n"
        + "  quantization: {distribution: choice, values: [none, int8]}\n",
        ("line 6", "parameters.lora.use_dora True", "parameters.quantization 'int8'", "`when`"),
    ),
    "a truth value in words": (
        GOOD + "  lora.use_dora: {distribution: choice, values: [maybe, never]}\n",
        ("line 5", "use_dora", "maybe", "boolean"),
    ),
    "a list for a mapping": ("description: x\nparameters: [lora.r]\n", ("line 2", "parameters", "dictionary")),
    "no parameters": ("description: x\nparameters: {}\n", ("line 2", "parameters")),
    "unknown key": (GOOD + "colour: red\n", ("line 5", "colour", "unknown key")),
    "unknown parameter": (GOOD.replace("lora.r", "lora.rank"), ("line 3", "lora.rank", "lora.r", "known are")),
    "alpha itself": (
        GOOD.replace("lora.alpha_over_r", "lora.lora_alpha"),
        ("line 4", "parameters.lora.lora_alpha", "lora.alpha_over_r"),
    ),
    "unknown distribution": (GOOD.replace("choice", "gaussian"), ("line 4", "gaussian", "power_of_two")),
    "no power": (GOOD.replace("high: 8", "high: 9"), ("line 3", "high 9 is not a power of two")),
    "turned round": (GOOD.replace("low: 2", "low: 16"), ("line 3", "low 16 is not below high 8")),
    "one value": (GOOD.replace("[1, 2]", "[1]"), ("line 4", "at least 2")),
    "twice": (GOOD.replace("[1, 2]", "[1, 1]"), ("line 4", "given twice")),
    "negative ratio": (GOOD.replace("[1, 2]", "[1, -2]"), ("line 4", "-2", "above 0")),
    "absurd ratio": (GOOD.replace("[1, 2]", "[1, 1e30]"), ("line 4", "1e+30", "up to 1250")),
    "absurd learning rate": (
        GOOD + "  train.learning_rate: {distribution: log_uniform, low: 1e-5, high: 1e6}\n",
        ("line 5", "learning_rate", "less than or equal to 1", "1000000.0"),
    ),
    "words for numbers": (GOOD.replace("low: 2", "low: few"), ("line 3", "few")),
    "rank above the width": (GOOD.replace("high: 8", "high: 512"), ("line 3", "512", "up to 384")),
    "a value no fit accepts": (
        GOOD + "  train.lr_scheduler: {distribution: choice, values: [linear, cubic]}\n",
        ("line 5", "lr_scheduler", "cubic", "cosine"),
    ),
    "log of zero": (
        GOOD + "  train.learning_rate: {distribution: log_uniform, low: 0, high: 1}\n",
        ("line 5", "greater than 0"),
    ),
    "condition on nothing": (
        GOOD + "  train.epochs: {distribution: integer, low: 1, high: 2, when: {lora.dropout: [1]}}\n",
        (
            "line 5",
            "parameters.train.epochs.when.lora.dropout",
            "not another parameter of this space",
            "allowed are lora.alpha_over_r, lora.r",
        ),
    ),
    "condition never met": (
        GOOD + "  train.epochs: {distribution: integer, low: 1, high: 2, when: {lora.r: [3]}}\n",
        ("line 5", "train.epochs.when: lora.r is never [3]", "[2, 4, 8]"),
    ),
    "a real rank": (
        GOOD.replace("power_of_two", "uniform"),
        ("line 3", "parameters.lora.r", "whole number", "power_of_two"),
    ),
    "a real batch": (
        GOOD + "  train.effective_batch_size: {distribution: log_uniform, low: 8, high: 32}\n",
        ("line 5", "train.effective_batch_size", "whole number"),
    ),
    "the precision": (GOOD + "  train.precision: {distribution: choice, values: [fp32, bf16]}\n", ("train.precision",)),
    "a seed of the confirmation": (GOOD + "training_seed: 1\n", ("line 5", "training_seed", "100", "seen: 1")),
    "a condition on a condition": (
        GOOD
        + "  train.epochs: {distribution: integer, low: 1, high: 2, when: {lora.r: [2]}}\n"
        + "  train.patience: {distribution: integer, low: 1, high: 2, when: {train.epochs: [2]}}\n",
        ("line 6", "train.patience.when.train.epochs", "itself conditional", "without `when`"),
    ),
    "a condition on a range": (
        GOOD
        + "  train.weight_decay: {distribution: uniform, low: 0, high: 1}\n"
        + "  train.epochs: {distribution: integer, low: 1, high: 2, when: {train.weight_decay: [0]}}\n",
        ("line 6", "train.epochs.when.train.weight_decay", "no list of values", "power_of_two"),
    ),
    "a family that takes a condition's values away": (
        GOOD
        + "  train.epochs: {distribution: integer, low: 1, high: 2, when: {lora.r: [8]}}\n"
        + "families:\n  llama:\n    lora.r: {distribution: choice, values: [2, 4]}\n",
        ("line 8", "families.llama.lora.r: train.epochs.when: lora.r is never [8]", "allowed are [2, 4]"),
    ),
    "a kind that takes it away from a family": (
        GOOD
        + "families:\n  decoder:\n    lora.r: {distribution: choice, values: [2, 4]}\n"
        + "  llama:\n    lora.alpha_over_r: {distribution: choice, values: [1, 2], when: {lora.r: [8]}}\n",
        ("line 9", "families.llama.lora.alpha_over_r.when.lora.r", "never [8]", "[2, 4]"),
    ),
    "no distribution": (
        GOOD.replace("distribution: choice, ", ""),
        ("line 4", "parameters.lora.alpha_over_r: has no `distribution`", "choice, uniform, log_uniform", "[1, 2]"),
    ),
    "a value for a distribution": (
        GOOD + "  train.epochs: 2\n",
        ("line 5", "parameters.train.epochs: expected `distribution: NAME`", "(seen: 2)"),
    ),
    "a list among the values": (
        GOOD.replace("[1, 2]", "[1, [2, 4]]"),
        ("line 4", "parameters.lora.alpha_over_r.values: allowed are strings, numbers", "(seen: [2, 4])"),
    ),
    "null where no fit has it": (
        GOOD.replace("[1, 2]", "[1, null]"),
        ("line 4", "parameters.lora.alpha_over_r: None", "above 0"),
    ),
    "null for a number that must be there": (
        GOOD + "  train.epochs: {distribution: choice, values: [1, null]}\n",
        ("line 5", "parameters.train.epochs", "valid number", "None"),
    ),
    "a number in quotes": (
        GOOD + '  train.warmup_share: {distribution: choice, values: [0, "0.1"]}\n',
        ("line 5", "warmup_share", "valid number", "'0.1'"),
    ),
    "a truth value for a number": (GOOD.replace("low: 2", "low: true"), ("line 3", "low", "valid integer", "True")),
    "a fraction for a whole number": (GOOD.replace("low: 2", "low: 2.5"), ("line 3", "parameters.lora.r.low", "2.5")),
    "equal numbers": (GOOD.replace("[1, 2]", "[1, 1.0]"), ("line 4", "given twice")),
    "a seed in words": (GOOD + "seed: first\n", ("line 5", "seed", "valid integer", "'first'")),
    "no trials": (GOOD + "num_trials: 0\n", ("line 5", "num_trials", "greater than or equal to 1", "0")),
    "parameters that are nothing": ("description: x\nparameters:\n", ("line 2", "parameters", "dictionary", "None")),
    "no mapping": ("- a\n", ("expected a mapping (`key: value` lines)",)),
}
