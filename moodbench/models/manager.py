"""Python API that prepares a model from the catalogue, the hub or a folder for fine-tuning with LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import LoraDefaults, Quantization, TextDefaults
from moodbench.errors import SpecError
from moodbench.hardware import Device, hardware
from moodbench.models.adapter import add_lora
from moodbench.models.base import load_base, prepare_for_training, set_pad_token
from moodbench.models.device import get_device
from moodbench.models.families import family_of, num_params_of, published_in
from moodbench.models.features import check_quantization, precision_of, weights_format
from moodbench.models.locate import locate
from moodbench.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class PreparedModel:
    """A model with a trainable adapter and head, and its tokenizer."""

    model: Any
    """A peft model; its frozen weights are stored as `quantization` says."""
    tokenizer: Tokenizer
    device: Device
    quantization: Quantization


class LoRAConfigManager:
    """Prepares models for LoRA, or for QLoRA if their weights are quantised; needs no instance."""

    @staticmethod
    def prepare_model(
        model_name: str,
        num_labels: int,
        device: Device | None = None,
        *,
        seed: int = 0,
        quantization: Quantization | None = None,
        catalogue: Catalogue | None = None,
    ) -> PreparedModel:
        """Return the model `model_name` with LoRA adapters and a classification head, on `device`.

        `model_name` is a name in the catalogue, a hub id or a folder. `device` defaults to the best device of this
        machine, `quantization` to the one of the model's entry. Weights that the checkpoint does not contain are
        initialised from `seed`.

        Raises: UnknownNameError, SpecError or PrerequisiteError if the model cannot be prepared.
        """
        catalogue = catalogue or load_catalogue()
        entry = catalogue.model(model_name)
        if entry.method != "lora" or entry.source is None:
            raise SpecError(f"model {model_name}: its method is {entry.method}; prepare_model makes LoRA models")
        if num_labels < 2:
            raise SpecError(f"model {model_name}: num_labels {num_labels}; a classifier needs 2 or more")
        place = device or get_device()
        text = TextDefaults.model_validate(catalogue.training.text.model_dump() | entry.text)
        family = family_of(model_name, entry, catalogue.families)[1]
        num_params = num_params_of(model_name, entry)
        lora = LoraDefaults.model_validate(catalogue.fine_tuning(entry, family.kind, "classification", num_params)[0])
        quantization = check_quantization(quantization or entry.quantization, place, model_name)
        precision = precision_of(
            "auto",
            place,
            model_name,
            fp16_safe=family.fp16,
            published=published_in(model_name, entry),
            bf16_in_hardware=hardware().multiplies_bf16(place),
            num_params=num_params,
        )
        dtype = weights_format(precision, quantization, place, num_params)
        folder = locate(model_name, entry.source).folder
        changes: dict[str, Any] = {"trust_remote_code": True} if entry.source.trust_remote_code else {}
        if entry.num_hidden_layers:
            changes["num_hidden_layers"] = entry.num_hidden_layers
        labels = [f"label {i}" for i in range(num_labels)]
        base = load_base(folder, labels, seed, quantization, dtype, place, **changes)
        tokenizer = Tokenizer.load(folder, text, trust_remote_code=entry.source.trust_remote_code)
        set_pad_token(base.model, tokenizer.pad_id)
        prepare_for_training(base)
        model = add_lora(base, lora, family.targets(lora.target_modules))
        return PreparedModel(model if quantization != "none" else model.to(place), tokenizer, place, quantization)
