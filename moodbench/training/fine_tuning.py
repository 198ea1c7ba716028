"""Fine-tuning of a LoRA adapter or of all weights with transformers.Trainer, keeping the best validation checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moodbench.config.schema import TrainDefaults
from moodbench.data.examples import subsample
from moodbench.estimate import Load
from moodbench.hardware import Device
from moodbench.metrics import get_metric, score_all
from moodbench.models.adapter import (
    ADAPTER,
    WEIGHTS,
    add_lora,
    initial_adapter,
    save_adapter,
    save_trained_weights,
    unfreeze,
)
from moodbench.models.base import base_folder, load_classifier, prepare_for_training, set_dropout, set_pad_token
from moodbench.models.device import parameter_count
from moodbench.models.tokenizer import Tokenizer, load_tokenizer
from moodbench.models.transformer import TOKENIZER
from moodbench.paths import cache_folder
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import Schedule, schedule_of
from moodbench.training.batches import LengthBuckets, longest_first, parts_by_length, tokenised
from moodbench.training.checkpoints import CheckpointArea, CheckpointWriter, resume_checkpoint
from moodbench.training.outcome import CurvePoint, FitOutcome, Report, training_verdict

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments

OPTIMIZERS = {"adamw": "adamw_torch_fused"}
"""Names of optimisers in transformers, where they differ from those in a recipe."""
VALIDATION_METRICS = ("f1_macro", "accuracy", "nll")
LOSSES_PER_FIT = 32
"""Points of a learning curve with a training loss; a long fit has more of them, see training_arguments."""


def fine_tune(
    spec: FitSpec,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    folder: Path,
    device: Device,
    report: Report,
    checkpoints: CheckpointArea,
    *,
    num_gpus: int = 1,
) -> FitOutcome:
    """Fine-tune the model of `spec`, and save the trained weights and the tokenizer in `folder`.

    The layers are spread over `num_gpus` CUDA devices. If an earlier attempt left a checkpoint, training resumes from
    it, with the same outcome as an uninterrupted fit.
    """
    assert spec.train is not None and spec.text is not None
    tokenizer = load_tokenizer(spec, base_folder(spec.model))
    base = load_classifier(spec, spec.seeds.init, device, num_gpus, tokenizer=tokenizer)
    set_pad_token(base.model, tokenizer.pad_id)
    if spec.train.base_dropout is not None:
        set_dropout(base.model, spec.train.base_dropout)
    lora = spec.lora
    num_params = parameter_count(base.model)
    model = unfreeze(base.model) if lora is None else add_lora(base, lora, spec.target_modules)
    num_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    initial = None if lora is None else initial_adapter(model, lora)
    prompt = spec.prompt.model_dump_json() if spec.prompt else ""
    key = f"{spec.model.tokenizer_sha256}|{spec.text.model_dump_json()}{prompt}"
    seeds = spec.seeds
    schedule = schedule_of(spec.train, len(train), len(validation))
    checkpointing = prepare_for_training(base.model, _load(spec, schedule.batch_size, num_trainable, device))
    arguments = training_arguments(spec.train, schedule, seeds.init, seeds.data_order, device, checkpoints.folder)
    trainer = _trainer(
        model,
        arguments,
        tokenised(train, tokenizer.encode, key, cache_folder()),
        tokenised(
            subsample(validation, schedule.validation_size, seeds.subsample), tokenizer.encode, key, cache_folder()
        ),
        tokenizer,
        spec.train,
        schedule,
        report,
        1.0 if lora is None else lora.loraplus_lr_ratio,
    )
    resumed = resume_checkpoint(checkpoints, spec.fit_id, device, lambda text: report({"note": text}))
    if resumed:
        report(
            {
                "note": f"continues from the checkpoint of step {resumed.manifest.step}",
                "earlier": resumed.validated(spec.train.select_by),
            }
        )
    writer = CheckpointWriter(checkpoints, spec.fit_id, device, resumed)
    writer.attach(trainer)
    trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    best = trainer.state.best_global_step
    history = trainer.state.log_history
    validated = next(entry for entry in history if entry["step"] == best and "eval_f1_macro" in entry)
    scored = subsample(validation, schedule.final_size, seeds.subsample)
    if schedule.final_size != schedule.validation_size:
        final = tokenised(scored, tokenizer.encode, key, cache_folder())
        validated = trainer.predict(final, metric_key_prefix="eval").metrics
    elapsed = writer.elapsed_s()
    if lora is None:
        save_trained_weights(model, folder / WEIGHTS)
    else:
        save_adapter(model, folder / ADAPTER, initial)
    tokenizer.hf.save_pretrained(folder / TOKENIZER)
    curve = _curve(history, spec.train.select_by)
    return FitOutcome(
        num_params=num_params,
        num_trainable=num_trainable,
        num_train=len(train),
        num_validation=len(scored),
        train_time_s=elapsed,
        validation_time_s=trainer.validation_time_s,
        num_texts_trained=schedule.texts_at(trainer.state.global_step),
        best_step=best,
        chosen={"gradient_checkpointing": True} if checkpointing else {},
        validation={name: validated[f"eval_{name}"] for name in VALIDATION_METRICS},
        curve=curve,
        num_attempts=writer.num_attempts,
        peak_memory_bytes=writer.peak_memory_bytes(),
        num_steps=trainer.state.global_step,
        training_verdict=training_verdict(
            curve,
            best_step=best,
            num_steps=trainer.state.global_step,
            planned_steps=schedule.num_steps,
            accuracy=validated["eval_accuracy"],
            num_validation=len(scored),
            majority_share=float(scored["label"].value_counts(normalize=True).max()),
            validation_size=schedule.validation_size,
        ),
    )


def _load(spec: FitSpec, batch_size: int, num_trainable: int, device: Device) -> Load:
    """Return what decides the memory of a fit, for texts of the maximum length."""
    assert spec.train is not None and spec.text is not None and spec.train.precision != "auto"
    return Load(
        min(batch_size, spec.train.max_device_batch_size),
        spec.text.max_length,
        device,
        spec.train.precision,
        spec.dtype,
        spec.quantization,
        dropout=spec.train.base_dropout != 0,
        num_trained=num_trainable,
        full=spec.lora is None,
    )


def accumulation_steps(batch_size: int, max_device_batch_size: int) -> int:
    """Return the gradient accumulation steps: the smallest number of equal parts of the batch that fit in memory."""
    return next(n for n in range(1, batch_size + 1) if batch_size % n == 0 and batch_size // n <= max_device_batch_size)


def training_arguments(
    train: TrainDefaults, schedule: Schedule, init_seed: int, data_seed: int, device: Device, folder: Path
) -> TrainingArguments:
    """Return the Trainer's arguments for a recipe on a device.

    Batches and validation steps cannot be expressed in them and are set in `_trainer`.
    """
    from transformers import TrainingArguments

    accumulation = accumulation_steps(schedule.batch_size, train.max_device_batch_size)
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=schedule.num_steps,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        warmup_steps=train.warmup_share,
        lr_scheduler_type=train.lr_scheduler,
        max_grad_norm=train.max_grad_norm,
        per_device_train_batch_size=schedule.batch_size // accumulation,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=train.max_device_batch_size,
        eval_strategy="steps",
        eval_steps=schedule.num_steps,
        save_strategy="best",
        logging_steps=max(1, min(train.max_evaluation_steps // 4, schedule.num_steps // LOSSES_PER_FIT)),
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=f"eval_{train.select_by}",
        greater_is_better=get_metric(train.select_by).higher_is_better,
        fp16=train.precision == "fp16",
        bf16=train.precision == "bf16",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        seed=init_seed,
        data_seed=data_seed,
        report_to=[],
        optim=OPTIMIZERS.get(train.optimizer, train.optimizer),
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def _trainer(
    model: Any,
    arguments: TrainingArguments,
    train_set: Any,
    validation_set: Any,
    tokenizer: Tokenizer,
    train: TrainDefaults,
    schedule: Schedule,
    report: Report,
    loraplus_lr_ratio: float = 1.0,
) -> Trainer:
    import torch
    from peft import PeftModel
    from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
    from transformers.utils import SAFE_WEIGHTS_NAME

    # GPUs compute a whole batch at once, and accumulated batches are parts already.
    in_parts = arguments.use_cpu and not train.group_by_length and arguments.gradient_accumulation_steps == 1

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = tokenizer.pad([row["input_ids"] for row in rows])
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    def scores(predicted: Any) -> dict[str, float]:
        every = score_all(predicted.predictions, predicted.label_ids)
        return {name: float(value) for name in VALIDATION_METRICS if (value := every[name]) is not None}

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            shown = {k: v for k, v in (logs or {}).items() if k in ("loss", f"eval_{train.select_by}")}
            if not np.isfinite(list(shown.values())).all():
                raise FloatingPointError(
                    f"training diverged at step {state.global_step}: {shown}; "
                    f"lower the learning rate (now {train.learning_rate})"
                )
            report({"step": state.global_step, "num_steps": state.max_steps, **shown})

    class ValidationSteps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = control.should_evaluate or state.global_step in schedule.validation_steps

    class ResumableTrainer(Trainer):  # type: ignore[misc]
        validation_time_s = 0.0
        _share = 1.0

        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            found = super().evaluation_loop(*args, **kwargs)
            self.validation_time_s += time.perf_counter() - began
            return found

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if not train.group_by_length:
                return super()._get_train_sampler(train_dataset)
            return LengthBuckets(train_set["length"], schedule.batch_size, arguments.data_seed)

        def _get_eval_sampler(self, eval_dataset: Any) -> Any:
            return longest_first(eval_dataset["length"])

        def _run_epoch(self, **arguments: Any) -> None:
            # transformers trains one step too many when it resumes from the last step and that is inside an epoch.
            if self.state.global_step < self.state.max_steps:
                super()._run_epoch(**arguments)

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
            parts = parts_by_length(inputs) if in_parts else [inputs]
            if len(parts) == 1:
                return super().training_step(model, inputs, num_items_in_batch)
            losses = []
            for part in parts:
                self._share = len(part["labels"]) / len(inputs["labels"])
                losses.append(super().training_step(model, part))
            self._share = 1.0
            return sum(losses)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_loss(*args, **kwargs)
            return found if self._share == 1 else self._share * found

        def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
            if isinstance(self.model, PeftModel):
                super()._save(output_dir, state_dict)
            else:
                assert output_dir is not None
                Path(output_dir).mkdir(parents=True, exist_ok=True)
                save_trained_weights(self.model, Path(output_dir) / SAFE_WEIGHTS_NAME)

        def create_optimizer(self, model: Any = None) -> Any:
            if loraplus_lr_ratio != 1 and getattr(self, "optimizer", None) is None:
                from peft.optimizers import create_loraplus_optimizer

                adapted = self.model if model is None else model
                made, settings = self.get_optimizer_cls_and_kwargs(self.args, adapted)
                self.optimizer: Any = create_loraplus_optimizer(  # Hayou et al. (2024), arXiv:2402.12354
                    adapted,
                    made,
                    loraplus_lr_ratio=loraplus_lr_ratio,
                    loraplus_weight_decay=train.weight_decay,
                    **settings,
                )
            return super().create_optimizer(model)

    return ResumableTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=validation_set,
        data_collator=collate,
        compute_metrics=scores,
        callbacks=[Progress(), ValidationSteps(), EarlyStoppingCallback(early_stopping_patience=train.patience)],
    )


def _curve(history: list[dict[str, Any]], select_by: str) -> tuple[CurvePoint, ...]:
    points = []
    for entry in history:
        if "loss" in entry:
            points.append(CurvePoint(entry["step"], entry["loss"]))
        elif f"eval_{select_by}" in entry:
            points.append(CurvePoint(entry["step"], None, select_by, entry[f"eval_{select_by}"]))
    return tuple(points)
