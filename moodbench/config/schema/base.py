"""What all catalogue parts share: the base class, and numbers within their bounds."""

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
# Upper bounds stand far above what anybody trains with; beyond them a value is a slip of the keyboard.
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Regularisation = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]


class Entry(BaseModel):
    """Base of all catalogue parts: immutable, and a key that nobody reads is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
