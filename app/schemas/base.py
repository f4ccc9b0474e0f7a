"""What models share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RequestModel(BaseModel):
    """What a client sends: unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class ResponseModel(BaseModel):
    """What the service answers; in its schema every field is always there."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


TaskId = Annotated[str, Field(examples=["task_4f9d02aa_1735689600"])]
"""`task_`, 8 hexadecimal digits, `_`, seconds since 1970."""
