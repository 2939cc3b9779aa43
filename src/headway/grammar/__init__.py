"""Grammars: which tokens may come next, so that a whole answer matches what was asked.

A `Grammar` (`headway.types`) is translated into the notation of llguidance (`translate`), compiled
with bounds on its size and time, and followed token by token (`matcher`). The API process compiles
a grammar to refuse what cannot be compiled; the engine process does it again where it samples. How
long an answer may reason before the rest of it (`thinking`) is followed likewise.
Knows token ids and bytes; no models, no requests, no HTTP. llguidance is loaded on first use.
"""

from headway.grammar.matcher import GrammarCompiler, Matcher
from headway.grammar.thinking import ThinkingWatch

__all__ = ["GrammarCompiler", "Matcher", "ThinkingWatch"]
