"""A program for people to read: one line an operation, with the names of its weights.

For example: `LINEAR     b1 int8 576 -> b4 add  layers.0.output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.native.abi import Epilogue, Kind
from headway.ops.native.operations import Listing, Operation
from headway.ops.native.weights import PackedMatrix


class Named(Protocol):
    """Weights with their names, in the order of their handles."""

    @property
    def matrices(self) -> Sequence[PackedMatrix]: ...

    @property
    def vector_names(self) -> Sequence[str]: ...


def describe(listing: Listing, weights: Named) -> str:
    """Lines of a program, in order; a buffer is given by its number, form and width."""
    return "\n".join(_line(listing, each, weights) for each in listing.operations)


def _line(listing: Listing, operation: Operation, weights: Named) -> str:
    def buffer(index: int) -> str:
        spec = listing.buffers[index]
        return f"b{index} {spec.form.name.lower()} {spec.width}"

    sources = [buffer(n) for n in (operation.source, operation.source2) if n >= 0]
    outs = [buffer(n) for n in operation.writes]
    if operation.epilogue is not Epilogue.STORE:
        outs.append(operation.epilogue.name.lower())
    parts = [
        f"{operation.kind.name:<10}",
        ", ".join(sources) or "tokens",
        "->",
        " ".join(outs) or "choices",
        _names(operation, weights),
    ]
    return " ".join(part for part in parts if part)


def _names(operation: Operation, weights: Named) -> str:
    found = [weights.matrices[n].name for n in (operation.matrix, operation.matrix2) if n >= 0]
    if operation.weight is not None:
        found.append(weights.vector_names[operation.weight.index])
    spec = operation.spec
    if spec is not None:
        found.append(f"layer {spec.layer}")
        if operation.kind is Kind.HEADS:
            found += [weights.vector_names[norm.index] for norm in spec.norms or ()]
            found.append(f"rope {spec.rope.index}")
        elif spec.window is not None:
            found.append(f"window {spec.window}")
    return f" {', '.join(found)}" if found else ""
