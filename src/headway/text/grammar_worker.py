"""`python -m headway.text.grammar_worker`: compiles grammars within limits, to see whether it can.

A grammar is a program that somebody else wrote. Most take milliseconds; a few kilobytes can take
minutes, or more stack than there is, and that ends the process that tries. So it is tried here
first, with less of everything than an engine has: what passes, an engine compiles as well.

Frames are those of `headway.text.render_worker`; any number of `CheckGrammar`, each of which a
`GrammarChecked` answers.
"""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass

import msgspec

from headway.errors import HeadwayError
from headway.grammar import GrammarCompiler
from headway.text.render_worker import FRAME_HEADER, RenderLimits, read_frame, restrict
from headway.types import Grammar, Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarLimits:
    """What compiling one grammar may use."""

    cpu_seconds: float = 0.3
    """Of processor time. An engine compiles one after the other, so this is how long others with a
    grammar wait."""
    memory: int = 512 * 2**20
    """Bytes of the process's data."""
    stack: int = 4 * 2**20
    """Bytes of stack, of which an engine has twice as many."""


class CheckGrammar(msgspec.Struct, frozen=True, kw_only=True):
    grammar: Grammar
    special_tokens: list[bytes]
    """Those that a grammar may name."""


class GrammarChecked(msgspec.Struct, frozen=True, kw_only=True):
    error: str | None = None
    """Why it cannot be compiled."""


def main(limits: GrammarLimits | None = None) -> int:
    limits = limits or GrammarLimits()
    compilers: dict[tuple[bytes, ...], GrammarCompiler] = {}
    decoder = msgspec.msgpack.Decoder(CheckGrammar)
    _compile(compilers, CheckGrammar(grammar=Grammar(kind="regex", text="a"), special_tokens=[]))
    with socket.socket(fileno=0) as connection:
        reader = connection.makefile("rb")
        restrict(RenderLimits(cpu_seconds=0, memory=limits.memory), stack=limits.stack)
        while body := read_frame(reader):
            asked = decoder.decode(body)
            signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
            answer = msgspec.msgpack.encode(GrammarChecked(error=_compile(compilers, asked)))
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(FRAME_HEADER.pack(len(answer)) + answer)
    return 0


def _compile(
    compilers: dict[tuple[bytes, ...], GrammarCompiler], asked: CheckGrammar
) -> str | None:
    special = tuple(asked.special_tokens)
    if special not in compilers:
        compilers.clear()
        compilers[special] = GrammarCompiler(lambda: byte_vocabulary(special))
    try:
        compilers[special].check(asked.grammar)
    except HeadwayError as error:
        return error.message
    except MemoryError:
        return "structured_outputs: it takes too much memory to compile"
    return None


def byte_vocabulary(special: tuple[bytes, ...]) -> Vocabulary:
    """Every byte as a token, which any text consists of, with special ones and an end of sequence.

    What can be compiled does not depend on how a model cuts text into tokens.
    """
    tokens = (*(bytes([byte]) for byte in range(256)), *special, b"<|end of sequence|>")
    return Vocabulary(
        tokens=tokens,
        special_ids=tuple(range(256, len(tokens))),
        eos_token_ids=(len(tokens) - 1,),
    )


if __name__ == "__main__":
    raise SystemExit(main())
