from headway.llm import ChoiceCollector, Delta, MessageReader
from headway.message import MessageDelta, ToolCallDelta


class Calling:
    """Calls a tool at an exclamation mark, which it holds back till the end.

    A question mark is where a call would break off.
    """

    plain = False

    def __init__(self) -> None:
        self._held = self._cut_off = False

    def feed(self, text: str) -> MessageDelta:
        self._held |= "!" in text
        self._cut_off |= "?" in text
        return MessageDelta(content=text.replace("!", ""))

    def finish(self) -> MessageDelta:
        calls = (ToolCallDelta(index=0, id="x", name="f", arguments="{}"),)
        return MessageDelta(tool_calls=calls if self._held else (), cut_off=self._cut_off)


def test_each_continuation_has_a_parser_and_says_why_it_ended() -> None:
    reader = MessageReader(Calling)
    assert reader.read(Delta(index=0, text="a!")) == [MessageDelta(content="a")]
    assert reader.read(Delta(index=1, text="b")) == [MessageDelta(content="b")]
    calling, plain = (Delta(index=each, finish_reason="stop") for each in (0, 1))
    (part,) = reader.read(calling)
    assert part.tool_calls[0].name == "f"
    assert reader.read(plain) == []
    assert reader.finish_reason(calling) == "tool_calls"
    assert reader.finish_reason(plain) == "stop"
    cut = Delta(index=0, finish_reason="length")
    assert reader.finish_reason(cut) == "length"


def test_a_whole_answer_is_read_as_its_stream_is() -> None:
    collected = ChoiceCollector()
    collected.add(Delta(index=0, text="a!"))
    collected.add(Delta(index=0, text="b", finish_reason="stop"))
    message, finish = MessageReader(Calling).whole(collected)
    assert (message.content, message.tool_calls[0].name, finish) == ("ab", "f", "tool_calls")


def test_an_answer_that_ended_within_a_call_does_not_call() -> None:
    reader, collected = MessageReader(Calling), ChoiceCollector()
    for delta in (Delta(index=0, text="!?"), Delta(index=0, finish_reason="stop")):
        reader.read(delta)
        collected.add(delta)
    assert reader.finish_reason(delta) == reader.whole(collected)[1] == "stop"
