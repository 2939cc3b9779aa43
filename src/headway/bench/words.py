"""Prompts as text, for servers and endpoints that take no token ids.

Every token becomes a common short word, most of which are one token to most tokenizers, so that the
text has about as many tokens as asked; equal tokens are equal words, so shared beginnings stay
shared. How many there really were, servers say themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

_TEXT = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work government number
night point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member law car
city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy
moment air teacher force education be have do say get make go know take see come think look want
give use find tell ask seem feel try leave call good new first last long great little own other
old big high different small large next early young important few public bad same able to of in
for on with at by from up about into over after the and a that it not he as you this but his they
her she or an will my one all would there their
"""
WORDS = tuple(_TEXT.split())


def as_words(tokens: Sequence[int]) -> str:
    """The text that stands for these tokens."""
    count = len(WORDS)
    return " ".join([WORDS[token % count] for token in tokens])
