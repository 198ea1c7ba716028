"""What a catalogue may say: one frozen schema per file, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from moodbench.config.changes import ChangesOf

Method = Literal["baseline", "linear-probe", "lora"]
Split = Literal["train", "validation", "test"]
Sampling = Literal["stratified", "balanced"]
Baseline = Literal["majority", "vader", "tfidf-logreg"]
Quantization = Literal["none", "int8", "nf4"]
"""How frozen weights are stored: as they are, 8 bits (LLM.int8), or 4-bit NormalFloat with doubly quantised scales."""
NumberFormat = Literal["fp32", "fp16", "bf16"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd"]
LoraInitialisation = Literal["default", "gaussian", "olora", "pissa", "pissa_niter_16", "orthogonal", "mica"]
"""Those of peft that need neither training texts nor a calibration pass; `default` is Kaiming-uniform A and B = 0."""
FROM_ANY_WEIGHTS: tuple[LoraInitialisation, ...] = ("default", "gaussian")
"""Initialisations that do not look at the frozen weights, and so bear quantised ones."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Upper bounds stand far above what anybody trains with; beyond them a value is a slip of the keyboard.
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
MAX_LORA_ALPHA = 1e4


class Entry(BaseModel):
    """Base of all catalogue parts: immutable, and a key that nobody reads is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraDefaults(Entry):
    """Low-rank adaptation, with the fields spelled as peft spells them."""

    r: Annotated[int, Field(ge=1, le=1024)]
    """Rank of the update matrices."""
    lora_alpha: Annotated[float, Field(gt=0, le=MAX_LORA_ALPHA, allow_inf_nan=False)]
    """Scale of the update: it is multiplied by lora_alpha / r."""
    lora_dropout: ShareBelowOne
    """Share of adapter inputs dropped in training."""
    target_modules: (
        Literal["attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    )
    """`attention` (the family's projections), `all-linear` (and its feed-forward), or module names."""
    use_rslora: bool = False
    """rsLoRA (Kalajdzievski 2023): the update is multiplied by lora_alpha / sqrt(r) instead."""
    use_dora: bool = False
    """DoRA (Liu et al. 2024): the norm of each row of the adapted weight is learned apart from its direction."""
    init_lora_weights: LoraInitialisation = "default"
    """What A and B hold at the start; olora and pissa take their first value out of the frozen weight."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """LoRA+ (Hayou et al. 2024): B learns so many times as fast as A; 1 is plain LoRA."""

    @model_validator(mode="after")
    def _possible_together(self) -> LoraDefaults:
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise ValueError(f"init_lora_weights orthogonal with r {self.r}: needs an even rank")
        if self.init_lora_weights == "mica" and (self.use_dora or self.loraplus_lr_ratio != 1):
            other = "use_dora" if self.use_dora else "loraplus_lr_ratio"
            raise ValueError(f"init_lora_weights mica with {other}: mica learns A alone; leave one of the two out")
        return self


def unlike_quantised(lora: LoraDefaults, quantization: Quantization) -> str | None:
    """Why `lora` cannot sit on weights so stored, with what can; None where it can."""
    if quantization != "none" and lora.init_lora_weights not in FROM_ANY_WEIGHTS:
        return (
            f"init_lora_weights {lora.init_lora_weights!r} is worked out from weights as they are, not from {quantization}; "
            f"allowed there are {', '.join(FROM_ANY_WEIGHTS)}"
        )
    if quantization == "int8" and lora.use_dora:
        return "use_dora needs the norms of the weights, which bitsandbytes loses with int8; nf4 and none keep them"
    return None


class TrainDefaults(Entry):
    """Gradient fine-tuning."""

    epochs: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Passes over the training split; the last may be partial."""
    learning_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    """Decoupled weight decay."""
    warmup_share: ShareBelowOne
    """Share of steps in which the learning rate rises from 0."""
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"]
    """Shape of the learning rate after warm-up."""
    effective_batch_size: BatchSize
    """Examples per optimiser step."""
    max_device_batch_size: BatchSize
    """Examples that one forward pass may hold; smaller than the effective batch means accumulation."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    """Gradients are clipped to this norm."""
    base_dropout: ShareBelowOne | None
    """Dropout inside the base model while training; null keeps the checkpoint's own."""
    group_by_length: bool
    """Batches of texts of similar length, so that less is padded."""
    evaluations_per_epoch: Annotated[int, Field(ge=1, le=1000)]
    """Validation runs per epoch."""
    max_evaluation_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    """A validation run at least every so many steps."""
    patience: Annotated[int, Field(ge=1, le=1_000_000)]
    """Stop after so many validation runs without a better score."""
    select_by: Literal["f1_macro", "accuracy", "nll"]
    """The validation score that chooses the kept checkpoint."""
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    """Number format in training; auto is fp32, but on CUDA fp16, or bf16 for families that overflow in fp16 and, where the
    device has it in hardware, for weights published in it."""
    optimizer: Optimizer = "adamw"
    """adamw_8bit keeps its state in 8 bits; the paged ones move it to host memory when a CUDA card is full."""


class ProbeDefaults(Entry):
    """A linear classifier on frozen embeddings."""

    pooling: Literal["mean", "cls"]
    """How token states become one vector."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Values of C tried; validation chooses."""


class TfidfDefaults(Entry):
    """Logistic regression on TF-IDF of word n-grams."""

    max_ngram: Annotated[int, Field(ge=1, le=10)]
    """Longest word n-gram."""
    min_document_count: Count
    """An n-gram must occur in so many training texts."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Values of C tried; validation chooses."""


class TextDefaults(Entry):
    """How a text becomes tokens."""

    max_length: Annotated[int, Field(ge=8, le=131_072)]
    """Longest input in tokens; what is longer is cut, and counted as truncated."""
    truncation_side: Literal["right", "left"]
    """Which end is cut."""


PreparationStep = Literal["entities", "links", "mentions", "lowercase"]


class Augmentation(Entry):
    """Changed copies of training texts; validation and test texts are never changed."""

    word_dropout: ShareBelowOne = 0.0
    """Share of words left out."""
    word_swap: Share = 0.0
    """Share of words that change places with the next."""
    punctuation: Share = 0.0
    """Share of words that get a punctuation mark before them."""
    copies: Annotated[int, Field(ge=1, le=16)] = 1
    """Changed copies beside each text."""

    @model_validator(mode="after")
    def _changes_something(self) -> Augmentation:
        if not (self.word_dropout or self.word_swap or self.punctuation):
            raise ValueError("give at least one of word_dropout, word_swap, punctuation a share above 0")
        return self


class TrainingFile(Entry):
    """training.yaml: defaults of every fit, which model and preset entries may change."""

    lora: LoraDefaults
    train: TrainDefaults
    probe: ProbeDefaults
    tfidf: TfidfDefaults
    text: TextDefaults


class MeasureProtocol(Entry):
    """How speed and memory are measured."""

    processes: Annotated[int, Field(ge=1, le=1000)]
    """Fresh processes, each of which answers all requests."""
    requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Single-stream requests per process."""
    window_requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Requests per window, the unit that is kept or dropped for disturbance."""
    warmup_s: Seconds
    """Least time of warm-up per process."""
    batch_sizes: tuple[BatchSize, ...] = Field(min_length=1, max_length=100)
    """Batch sizes of the throughput points."""
    batch_seconds: Annotated[Seconds, Field(gt=0)]
    """Least time of one throughput point."""
    batch_repeats: Annotated[int, Field(ge=1, le=1000)]
    """Repeats of each throughput point; the median is reported."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)]
    """Attempts until a measurement is undisturbed; the last is kept and marked."""
    backoff_s: Seconds
    """Wait before the second attempt; doubles each time."""
    quick: bool
    """Marks a protocol too short for publication."""


class EvaluationFile(Entry):
    """evaluation.yaml: how predictions are made and how speed is measured."""

    prediction_batch_size: BatchSize
    """Texts per batch when the test split is predicted."""
    protocols: dict[str, MeasureProtocol]
    """Named measuring protocols."""
    protocol: str
    """The protocol used when none is named."""

    @model_validator(mode="after")
    def _protocol_exists(self) -> EvaluationFile:
        if self.protocol not in self.protocols:
            raise ValueError(f"protocol {self.protocol!r} is not one of {sorted(self.protocols)}")
        return self


class ModelSource(Entry):
    """Where weights come from: exactly one of an installed package, a hub repository or a local folder."""

    package: str | None = None
    """Name of an installed distribution that carries the files."""
    folder: str | None = None
    """Folder inside that distribution."""
    hub: str | None = None
    """Repository id on the Hugging Face hub."""
    revision: str | None = None
    """Commit of that repository; null until `moodbench catalogue pin` has seen the hub."""
    converted: bool = False
    """Where the main branch holds pickled weights only, take the safetensors that the hub's conversion bot proposes."""
    gated: bool = False
    """The repository's terms must be accepted on the hub, and a token given."""
    trust_remote_code: bool = False
    """Run Python code that the repository or folder brings, for an architecture that transformers lacks."""
    path: str | None = None
    """A folder on this machine."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected digest of model.safetensors."""

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSource:
        given = [k for k in ("package", "hub", "path") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of package, hub, path; given: {given or 'none'}")
        if bool(self.package) != bool(self.folder):
            raise ValueError("package and folder go together")
        if not self.hub and (self.revision or self.gated or self.converted):
            raise ValueError("revision, gated and converted are read for hub repositories only")
        if self.package and self.trust_remote_code:
            raise ValueError("trust_remote_code is read for hub repositories and folders only")
        return self


class Family(Entry):
    """One architecture, named as transformers names its model type: what LoRA and loading need to know of it."""

    kind: Literal["encoder", "decoder"] = "encoder"
    """An encoder reads both ways; a decoder answers at the last token, and so must be padded on the right."""
    attention: tuple[str, ...]
    """Query, key, value and output projections."""
    feed_forward: tuple[str, ...]
    """Linear layers of the feed-forward block."""
    sdpa: bool = True
    """torch's fused attention is implemented; without it the plain formula is used."""
    fp16: bool = True
    """Activations stay within the range of fp16."""
    gradient_checkpointing: bool = True
    """Activations can be computed again in the backward pass instead of being kept."""

    def targets(self, wanted: Literal["attention", "all-linear"] | tuple[str, ...]) -> tuple[str, ...]:
        """Module names that LoRA adapts, with the family's names filled in."""
        if wanted == "attention":
            return self.attention
        return (*self.attention, *self.feed_forward) if wanted == "all-linear" else wanted


class ModelSize(Entry):
    """The shape of a model, as its configuration states it."""

    num_params: Count
    """Parameters as a classifier with 2 labels, without any language-model head."""
    num_embedding_params: Count
    """Those of all embedding tables; they are neither adapted nor quantised."""
    num_hidden_layers: Count
    hidden_size: Count
    intermediate_size: Count
    """Width of the feed-forward block."""
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    """Width of one head where it is not hidden_size / num_attention_heads."""
    vocab_size: Count
    context_length: Count
    """Longest input in tokens."""


class DeviceBatch(Entry):
    """Texts that one forward pass in training may hold, by device; a smaller one means more accumulation."""

    cpu: BatchSize
    cuda: BatchSize
    """For a card of 10 GiB."""
    mps: BatchSize


Group = Literal["ultra-tiny", "tiny", "small-llm"]
"""Below 50 million parameters; all between; decoders of 250 million or more."""

_ENCODER = {"family", "source", "num_hidden_layers", "text", "group", "size"}
_READ_BY: dict[str, set[str]] = {
    "majority": set(),
    "vader": set(),
    "tfidf-logreg": {"tfidf"},
    "linear-probe": _ENCODER | {"probe"},
    "lora": _ENCODER | {"lora", "train", "batch_size", "published_in"},
}
"""Baseline or method -> the optional keys of an entry that bear on it."""


class ModelEntry(Entry):
    """One contender: a model and the way it is fitted."""

    method: Method
    baseline: Baseline | None = None
    """Which classical baseline, when the method is `baseline`."""
    family: str | None = None
    """Architecture, a key of `families`; found out from the model's config.json when null."""
    source: ModelSource | None = None
    num_hidden_layers: Count | None = None
    """Keep only the first so many layers."""
    group: Group | None = None
    size: ModelSize | None = None
    published_in: NumberFormat | None = None
    """Number format of the published weights; null where nobody looked."""
    batch_size: DeviceBatch | None = None
    """Replaces train.max_device_batch_size where that would hold more texts."""
    quantization: Quantization = "none"
    """How the frozen weights are stored; a request may change it."""
    licence: str
    description: str
    """One line for lists."""
    caveat: str | None = None
    """What a reader of its scores must know."""
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}
    probe: Annotated[dict[str, object], ChangesOf(ProbeDefaults)] = {}
    tfidf: Annotated[dict[str, object], ChangesOf(TfidfDefaults)] = {}
    text: Annotated[dict[str, object], ChangesOf(TextDefaults)] = {}

    @model_validator(mode="after")
    def _complete(self) -> ModelEntry:
        if (self.method == "baseline") != (self.baseline is not None):
            raise ValueError("`baseline` is given exactly when method is baseline")
        if self.method != "baseline" and self.source is None:
            raise ValueError(f"method {self.method} needs `source`")
        if self.quantization != "none" and self.method != "lora":
            raise ValueError(f"method {self.method} does not read quantization")
        shape = ("family", "source", "num_hidden_layers", "group", "size", "batch_size", "published_in")
        fields = (*shape, "lora", "train", "probe", "tfidf", "text")
        idle = [key for key in fields if getattr(self, key) and key not in _READ_BY[self.baseline or self.method]]
        if idle:
            kind = f"baseline {self.baseline}" if self.baseline else f"method {self.method}"
            raise ValueError(f"{kind} does not read {', '.join(idle)}")
        return self


class ModelsFile(Entry):
    """models.yaml."""

    families: dict[str, Family]
    models: dict[str, ModelEntry]

    @model_validator(mode="after")
    def _families_exist(self) -> ModelsFile:
        for name, entry in self.models.items():
            if entry.family is not None and entry.family not in self.families:
                raise ValueError(f"models.{name}.family {entry.family!r} is not one of {sorted(self.families)}")
        return self


class Labelling(Entry):
    """How the labels of a table become classes."""

    label_map: dict[str, str] = {}
    """Label -> class, or `drop` to leave the row out; empty keeps the labels as classes."""
    labels: tuple[str, ...] = ()
    """Class names, most negative first; empty for the order of numbers, known words or the alphabet."""

    @field_validator("label_map", mode="before")
    @classmethod
    def _words_in_map(cls, value: object) -> object:
        return {_word(k): _word(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return [_word(v) for v in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _classes_possible(self) -> Labelling:
        if self.labels and (len(set(self.labels)) != len(self.labels) or len(self.labels) not in (2, 3, 5)):
            raise ValueError(f"labels: 2, 3 or 5 different ones are possible, given {list(self.labels)}")
        classes = dict.fromkeys(v for v in self.label_map.values() if v != "drop")
        if self.label_map and len(classes) not in (2, 3, 5):
            raise ValueError(f"label_map: makes {len(classes)} classes ({', '.join(classes)}); possible are 2, 3 or 5")
        if self.label_map and self.labels and set(classes) != set(self.labels):
            raise ValueError(
                f"labels {list(self.labels)} and the classes of label_map {list(classes)} must be the same"
            )
        return self


class FileSource(Labelling):
    """A table of texts and labels, a person's own or one that Kaggle keeps: CSV, TSV, JSONL or Parquet."""

    path: str = Field(min_length=1)
    """The file; a relative path starts at the working directory, or in the Kaggle data set."""
    kaggle: str | None = Field(None, pattern="^[^/ ]+/[^/ ]+$")
    """Kaggle data set (owner/name) that has the file; null for a file of one's own."""
    version: Count | None = None
    """Version of the Kaggle data set; null for the newest."""
    text_column: str
    """Column with the texts."""
    label_column: str
    """Column with stars, numbers or words."""
    split_column: str | None = None
    """Column that says train, validation or test; null for splits made by content."""
    group_column: str | None = None
    """Rows of one group stay on one side."""
    id_column: str | None = None
    """Rows with an id that another row has are left out."""
    segment_column: str | None = None
    """Part of the source, such as a shop's branch, kept beside each text."""

    @model_validator(mode="after")
    def _makes_sense(self) -> FileSource:
        if self.version is not None and self.kaggle is None:
            raise ValueError("version is the version of a Kaggle data set; give `kaggle` as well")
        if self.split_column is not None and self.group_column is not None:
            raise ValueError("split_column and group_column exclude each other: given splits are taken as they are")
        given = (self.text_column, self.label_column, self.split_column, self.group_column, self.id_column)
        columns = [c for c in (*given, self.segment_column) if c is not None]
        repeated = sorted({c for c in columns if columns.count(c) > 1})
        if repeated:
            raise ValueError(f"column {', '.join(map(repr, repeated))} is given two roles; each needs its own")
        return self


class HubSource(Labelling):
    """A data set of the Hugging Face hub, or of any server that speaks its protocol (HF_ENDPOINT)."""

    id: str = Field(pattern="^[^/ ]+(/[^/ ]+)?$")
    """Repository id."""
    config: str | None = None
    """Configuration (subset) of the repository; null for its default."""
    revision: str | None = None
    """Commit, branch or tag; null for the newest commit, which the run then records."""
    splits: dict[Split, str] = {}
    """Our split -> the repository's; empty takes those of the usual names. A missing validation split is carved from
    train; with train alone, splits are made by content."""
    text_columns: tuple[str, ...] = Field(min_length=1)
    """Columns whose texts, joined by line ends, are the text."""
    label_column: str
    """Column with the label: a class name, number or word."""
    draw: dict[Split, Count] = {}
    """Our split -> draw so many rows of it with the seed `draw_seed`; a split that is not named is taken whole."""
    draw_by: Sampling = "stratified"
    """Class shares of what is drawn: those of the source, or equal ones."""
    draw_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _has_splits(self) -> HubSource:
        if self.splits and "train" not in self.splits:
            raise ValueError(f"splits: train is needed, given {', '.join(self.splits)}")
        return self


def _word(value: object) -> object:
    """YAML's 4 and 4.0 as "4", the way a file's label is read."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) else value


class DatasetEntry(Entry):
    """One labelled data set, from exactly one of an embedded text, a file and a hub repository."""

    embedded: str | None = None
    """Name of the embedded text."""
    file: FileSource | None = None
    """A file on this machine or at Kaggle."""
    hub: HubSource | None = None
    """A repository of the Hugging Face hub."""
    labels: tuple[str, ...] = ()
    """Class names of an embedded text in the order of their ids, most negative first."""
    neutral_band: NonNegative | None = None
    """Mean ratings of an embedded text within plus or minus this are neutral."""
    num_source_rows: dict[str, Count] = {}
    """The source's splits and their rows as published; a run says when the source differs."""
    mean_words: Positive | None = None
    """Words per text, roughly: what estimates use before the texts are on this machine."""
    licence: str = "not stated"
    terms: str | None = None
    """What binds who uses the texts, beyond the licence's name."""
    citation: str | None = None
    description: str = "your own data"
    """One line for lists."""

    @model_validator(mode="after")
    def _complete(self) -> DatasetEntry:
        sources = ("embedded", "file", "hub")
        given = [key for key in sources if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(sources)}; given: {', '.join(given) or 'none'}")
        if self.embedded is None:
            idle = [key for key in ("labels", "neutral_band") if getattr(self, key) not in (None, ())]
            if idle:
                raise ValueError(f"{', '.join(idle)}: read for embedded texts only; give it under `{given[0]}`")
            return self
        if len(self.labels) not in (2, 3):
            raise ValueError(f"labels: 2 (neutral items are left out) or 3 are possible, given {list(self.labels)}")
        missing = {"neutral_band", "licence", "citation", "description"} - self.model_fields_set
        if missing:
            raise ValueError(f"an embedded text needs {', '.join(sorted(missing))}")
        return self

    @property
    def expected_rows(self) -> dict[Split, int] | None:
        """Texts per split that loading will give, as far as published sizes say it: after drawing and carving."""
        if self.file is not None and "all" in self.num_source_rows:
            rows = self.num_source_rows["all"]
            return {"train": round(0.7 * rows), "validation": round(0.1 * rows), "test": round(0.2 * rows)}
        if self.hub is None:
            return None
        theirs = self.hub.splits or {"train": "train", "validation": "validation", "test": "test"}
        rows_of: dict[Split, int] = {
            ours: self.num_source_rows[name] for ours, name in theirs.items() if name in self.num_source_rows
        }
        if not {"train", "test"} <= set(rows_of):
            return None
        draw, train = self.hub.draw, rows_of["train"]
        drawn: dict[Split, int] = {ours: min(rows, draw.get(ours, rows)) for ours, rows in rows_of.items()}
        if "validation" not in drawn:
            pool = train if "train" not in draw else min(train, draw["train"] + draw.get("validation", 0))
            carved = min(pool // 8, draw.get("validation", pool))
            drawn |= {"train": pool - carved, "validation": carved}
        return drawn

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, most negative first, as far as the entry alone says them."""
        return self.labels or (self.file.labels if self.file else self.hub.labels if self.hub else ())


class DatasetsFile(Entry):
    """datasets.yaml."""

    datasets: dict[str, DatasetEntry]


class Preset(Entry):
    """A named run: what a newcomer starts with one word."""

    description: str
    models: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    seeds: Count = 1
    """Number of seeds, 0 to seeds - 1."""
    max_train_examples: Count | None = None
    max_validation_examples: Count | None = None
    protocol: str | None = None
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}


class PresetsFile(Entry):
    """presets.yaml."""

    presets: dict[str, Preset]


class DeviceClass(Entry):
    """Machines of one kind: what a phase may use of one, and how fast it is at best."""

    description: str
    device: Literal["cpu", "cuda", "mps"]
    memory_gib: Positive
    """Memory of the machine; on Apple silicon the GPU's too."""
    num_cpus: Count
    """Cores of the machine."""
    gpu_memory_gib: Positive | None = None
    """Memory of one CUDA device; given exactly for cuda."""
    tflops: dict[Literal["fp32", "fp16", "bf16"], Positive]
    """Peak 10^12 operations per second for each number format that the device computes in."""
    bandwidth_gb_s: Positive
    """Peak 10^9 bytes per second of the memory that holds the weights."""
    efficiency: Annotated[float, Field(gt=0, le=1)]
    """Share of the peak that training reaches where no history says better."""
    overhead_ms_per_layer: NonNegative = 0.0
    """Time to start one layer's kernels in one forward pass; small models on fast devices wait for it."""
    gpu_names: tuple[str, ...] = ()
    """Regular expressions for the name that nvidia-smi shows."""
    labels: dict[str, str] = {}
    """Labels of the nodes of a Ray cluster."""
    tags: tuple[str, ...] = ()
    """Words of your own."""
    price_per_hour: NonNegative | None = None
    """In any currency, the same for all classes."""
    source: str
    """Where the figures are from."""

    @model_validator(mode="after")
    def _complete(self) -> DeviceClass:
        if (self.device == "cuda") != (self.gpu_memory_gib is not None):
            raise ValueError("gpu_memory_gib is given exactly for device cuda")
        if "fp32" not in self.tflops:
            raise ValueError("tflops: fp32 is missing; every device computes in it")
        return self


class DevicesFile(Entry):
    """devices.yaml."""

    devices: dict[str, DeviceClass]
