"""The core types: all that passes between the towers, and between the processes.

Frozen, keyword-only, slotted dataclasses of plain data, so that the plan tower, the tensor tower,
the simulator and the wire can share them. What every sequence has one of in every step (`Slice`,
`Sampled`, `TokenEvent`) is a frozen msgspec struct instead, which is made in a tenth of the time.
Nothing else comes from outside of the standard library.
"""

from headway.types.grammar import (
    Grammar,
    StructuredOutputsParams,
    Vocabulary,
    special_token_name,
)
from headway.types.request import (
    NOBODY,
    SERVICE_CLASSES,
    FinishReason,
    Owner,
    Request,
    ServiceClass,
    TokenEvent,
)
from headway.types.sampling import ResolvedSampling, SamplingParams
from headway.types.step import (
    HiddenStates,
    Limits,
    NewSequence,
    PromptLogprobs,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenLogprobs,
)

__all__ = [
    "NOBODY",
    "SERVICE_CLASSES",
    "FinishReason",
    "Grammar",
    "HiddenStates",
    "Limits",
    "NewSequence",
    "Owner",
    "PromptLogprobs",
    "Request",
    "ResolvedSampling",
    "Sampled",
    "SamplingParams",
    "ServiceClass",
    "Slice",
    "StepPlan",
    "StepResult",
    "StructuredOutputsParams",
    "TokenEvent",
    "TokenLogprobs",
    "Vocabulary",
    "special_token_name",
]
