"""Quality: what a weight format costs a model, measured in perplexity and divergence.

`evaluate` prepares the formats and makes a `QualityReport`; `program`, a process of its own,
compares them. `docs/quality.md` has the method and what it found.
"""
