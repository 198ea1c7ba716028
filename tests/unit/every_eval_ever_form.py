"""What the JSON schema of Every Eval Ever, version 0.3.0, asks of the fields that we write, in a schema of our own.

Source: schemas/eval.schema.json of the package every-eval-ever 0.3.0, from github.com/evaleval/every_eval_ever. Ours is the stricter: the
published one lets other fields stand below the first level, which would hide a misspelt name, and does not ask for a number
between the ends that `metric_config` gives, which the project's own checker does.
"""

from typing import Any


def record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
DETAILS = {"type": "object", "additionalProperties": {"type": "string"}}
MODEL_DETAILS = DETAILS | {
    "required": ["deployment_type", "model_availability"],
    "properties": {
        "deployment_type": {"enum": ["self_deployed", "externally_managed", "unknown"]},
        "model_availability": {"enum": ["open_weights", "closed_weights", "unknown"]},
    },
}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
HUB_DATA = record(
    {"dataset_name": TEXT, "source_type": {"const": "hf_dataset"}, "hf_repo": TEXT},
    {"hf_split": {"enum": ["train", "val", "test"]}, "samples_number": {"type": "integer", "minimum": 1}}
    | {"additional_details": DETAILS},
)
OTHER_DATA = record({"dataset_name": TEXT, "source_type": {"const": "other"}}, {"additional_details": DETAILS})
INTERVAL = record({"lower": SHARE, "upper": SHARE}, {"confidence_level": SHARE, "method": TEXT})
RESULT = record(
    {
        "evaluation_name": TEXT,
        "source_data": {"oneOf": [HUB_DATA, OTHER_DATA]},
        "metric_config": record(
            {"lower_is_better": {"type": "boolean"}, "score_type": {"const": "continuous"}, "min_score": {"const": 0.0}, "max_score": {"const": 1.0}},
            {"evaluation_description": TEXT, "metric_id": TEXT, "metric_name": TEXT, "metric_kind": TEXT, "metric_unit": TEXT},
        ),
        "score_details": record(
            {"score": SHARE},
            {"details": DETAILS, "uncertainty": record({}, {"num_samples": {"type": "integer", "minimum": 1}, "confidence_interval": INTERVAL})},
        ),
    },
    {"evaluation_timestamp": TEXT},
)  # fmt: skip
SOURCE = record(
    {
        "source_type": {"enum": ["documentation", "evaluation_run"]},
        "source_organization_name": TEXT,
        "evaluator_relationship": {"enum": ["first_party", "third_party", "collaborative", "other"]},
    },
    {"source_name": TEXT, "source_organization_url": TEXT, "additional_details": DETAILS},
)
FORM = record(
    {
        "schema_version": {"const": "0.3.0"},
        "evaluation_id": {"type": "string", "pattern": "^[^/]+/.+/[0-9.]+$"},
        "retrieved_timestamp": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"},
        "source_metadata": SOURCE,
        "model_info": record(
            {"name": TEXT, "id": TEXT, "additional_details": MODEL_DETAILS},
            {"developer": TEXT, "inference_platform": TEXT},
        ),
        "eval_library": record({"name": TEXT, "version": TEXT}, {"additional_details": DETAILS}),
        "evaluation_results": {"type": "array", "items": RESULT, "minItems": 1},
    },
    {"evaluation_timestamp": TEXT},
)
"""The whole record."""
