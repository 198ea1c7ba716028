"""Base class and bounded number types of all catalogue schemas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "validation", "test"]
Sampling = Literal["stratified", "balanced"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Upper bounds are far above realistic values; anything beyond is a typo.
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]


class Entry(BaseModel):
    """Base class of all catalogue schemas: immutable; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
