"""Partial schemas: some fields of a schema, given by a model entry, preset or spec to override defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidatorFunctionWrapHandler, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


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
