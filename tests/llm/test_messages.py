from headway.llm import ChoiceCollector, Delta, MessageReader
from headway.message import MessageDelta, ToolCallDelta


class Calling:
    """Calls a tool at an exclamation mark, which it holds back till the end."""

    def __init__(self) -> None:
        self._held = False

    def feed(self, text: str) -> MessageDelta:
        self._held |= "!" in text
        return MessageDelta(content=text.replace("!", ""))

    def finish(self) -> MessageDelta:
        calls = (ToolCallDelta(index=0, id="x", name="f", arguments="{}"),)
        return MessageDelta(tool_calls=calls if self._held else ())


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
