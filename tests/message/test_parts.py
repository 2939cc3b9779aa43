from headway.message import MessageDelta, PlainMessageParser, ToolCallDelta, collect


def test_a_message_is_what_its_deltas_add_up_to() -> None:
    message = collect(
        (
            MessageDelta(reasoning="hm"),
            MessageDelta(content="a"),
            MessageDelta(
                content="b",
                tool_calls=(
                    ToolCallDelta(index=0, id="x", name="f", arguments='{"a'),
                    ToolCallDelta(index=0, arguments='":1}'),
                ),
            ),
            MessageDelta(tool_calls=(ToolCallDelta(index=1, id="y", name="g", arguments="{}"),)),
        )
    )
    assert (message.reasoning, message.content) == ("hm", "ab")
    assert [(call.id, call.name, call.arguments) for call in message.tool_calls] == [
        ("x", "f", '{"a":1}'),
        ("y", "g", "{}"),
    ]


def test_a_delta_that_adds_nothing_is_false() -> None:
    assert not MessageDelta()
    assert MessageDelta(reasoning="a")
    assert MessageDelta(tool_calls=(ToolCallDelta(index=0, arguments=""),))


def test_plain_text_is_content() -> None:
    parser = PlainMessageParser()
    assert parser.feed("<think>") == MessageDelta(content="<think>")
    assert not parser.finish()
