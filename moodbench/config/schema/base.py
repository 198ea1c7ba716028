"""Base class, bounded number types and partial schemas of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidatorFunctionWrapHandler,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from moodbench.paths import checked_name

Split = Literal["train", "validation", "test"]
Sampling = Literal["stratified", "balanced"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, AfterValidator(checked_name)]
"""Name of an entry: it becomes part of the names of files."""
HubId = Annotated[str, AfterValidator(partial(checked_name, parts=2))]
"""OWNER/NAME on the Hugging Face hub, or a NAME alone; models may be named so as well."""
HubRevision = Annotated[str, AfterValidator(partial(checked_name, parts=8))]
"""Commit, branch or tag of a repository, such as refs/pr/1."""
# Upper bounds are far above realistic values; anything beyond is a typo.
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]


class Entry(BaseModel):
    """Base class of all catalogue schemas: immutable; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class ChangesOf:
    """Annotation of a mapping that is validated as fields of `schema`, all optional, and kept as written."""

    schema: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _checked,
            handler.generate_schema(_partial(self.schema)),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


def _checked(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, Mapping):
        raise PydanticCustomError("dict_type", "expected keys below it")
    check(dict(value))
    return value


@cache
def _partial(schema: type[BaseModel]) -> type[BaseModel]:
    """Return `schema` with all fields optional; checks across several fields run later, on the merged values."""
    fields: dict[str, Any] = {
        name: (Annotated[field.annotation, Field(), *field.metadata], None)
        for name, field in schema.model_fields.items()
    }
    return create_model(f"{schema.__name__}Changes", __config__=ConfigDict(extra="forbid"), **fields)
