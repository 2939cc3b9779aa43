"""`LLM` over the fake engine: order, parameters, chat, Ctrl-C, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.errors import InvalidRequest, Overloaded
from headway.llm import LLM
from headway.llm.prompt import Prompt
from headway.llm.sync import _config
from headway.types import SamplingParams
from headway.types.sampling_defaults import SAFE_CHAT, DefaultSampling, SamplingDefaults
from tests.client.fake_engine import COMMAND, SHED
from tests.client.support import PATIENCE, alive, started
from tests.llm.support import serve_fake, write_prepared


@pytest.fixture
def llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    serve_fake(monkeypatch, write_prepared(tmp_path))
    with LLM(command=COMMAND, seed=1) as llm:
        yield llm
    assert not any(alive(pid) for pid in started(tmp_path))


def test_results_come_in_the_order_of_the_prompts(llm: LLM) -> None:
    params = [SamplingParams(max_tokens=length, seed=1) for length in (30, 2, 11)]
    prompts: list[Prompt] = ["a", "b", [5, 6]]
    outputs = llm.generate(prompts, params)
    assert [output.prompt for output in outputs] == ["a", "b", None]
    assert [len(output.outputs[0].token_ids) for output in outputs] == [30, 2, 11]
    assert outputs[2].prompt_token_ids == [5, 6]
    alone = llm.generate("b", params[1], use_tqdm=False)
    assert alone[0].outputs == outputs[1].outputs


def test_nothing_runs_when_any_prompt_is_refused(llm: LLM) -> None:
    prompts: list[Prompt] = ["a", [99_999]]
    with pytest.raises(InvalidRequest, match="outside the vocabulary"):
        llm.generate(prompts)
    with pytest.raises(InvalidRequest, match="2 prompts and 1 sampling parameters"):
        llm.generate(["a", "b"], [SamplingParams()])
    assert llm.engine.client.stats.computed_tokens == 0


def test_chat_applies_the_template(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "Hi"}]
    params = SamplingParams(max_tokens=3, seed=1)
    (output,) = llm.chat(conversation, params)
    assert output.prompt == "<user>Hi<assistant>"
    pair = llm.chat([conversation, conversation], params)
    assert [each.outputs for each in pair] == [output.outputs] * 2


def test_chat_tells_the_model_of_tools_and_returns_its_text(llm: LLM) -> None:
    tool = {"type": "function", "function": {"name": "weather", "description": "Of a city."}}
    conversation = [{"role": "user", "content": "Hi"}]
    (output,) = llm.chat(conversation, SamplingParams(max_tokens=3, seed=1), tools=[tool])
    assert "<system>" in (output.prompt or "")
    assert "Of a city." in (output.prompt or "")
    with pytest.raises(InvalidRequest, match=r"tools\[1\].function.name: weather is there already"):
        llm.chat(conversation, tools=[tool, tool])


def test_prompts_without_parameters_get_the_models_defaults(llm: LLM) -> None:
    assert llm.get_default_sampling_params() == SamplingParams()
    assert llm.get_default_sampling_params(chat=True).top_k == SAFE_CHAT.top_k
    llm.engine.default_sampling = DefaultSampling(
        chat=SamplingDefaults(max_tokens=2), completions=SamplingDefaults(max_tokens=3)
    )
    (output,) = llm.generate("a")
    assert len(output.outputs[0].token_ids) == 3
    (answer,) = llm.chat([{"role": "user", "content": "Hi"}])
    assert len(answer.outputs[0].token_ids) == 2


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="'max_batch' is no engine setting"):
        LLM(max_batch=3)


def test_speculation_may_be_given_as_data() -> None:
    config = _config(None, {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}})
    assert config.speculative().most == 3
    with pytest.raises(InvalidRequest, match="eagle needs weights"):
        LLM(speculative_config={"method": "eagle"})


def test_closing_twice_is_harmless(llm: LLM) -> None:
    llm.close()
    llm.close()


SCRIPT = """
import sys
from pathlib import Path
import headway.llm.async_llm as module
from headway.checkpoint import load_prepared
from headway.llm import LLM
from headway.llm.prompt import Prompt
from headway.llm.sync import _config
from headway.types import SamplingParams

folder = Path(sys.argv[1])
module.ready_model = lambda config, **_: (config, load_prepared(folder))
llm = LLM(command=sys.argv[2:])
long = SamplingParams(max_tokens=2000, ignore_eos=True)
llm.engine.client.subscribe(lambda events, *_: events and print("running", flush=True))
try:
    llm.generate(["a", "b"], long)
except KeyboardInterrupt:
    print("interrupted", llm.engine.client.live, flush=True)
print(len(llm.generate("c", SamplingParams(max_tokens=4))[0].outputs[0].token_ids), flush=True)
"""


def test_ctrl_c_aborts_what_runs_and_the_llm_goes_on(tmp_path: Path) -> None:
    write_prepared(tmp_path, step_seconds=0.05)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *COMMAND],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=PATIENCE)[0].splitlines()
        finally:
            process.kill()
    # Undisturbed, the two requests would have taken 100 seconds; now there are four steps left.
    assert [line for line in told if line != "running"] == ["interrupted 0", "4"]
    assert process.returncode == 0
    give_up = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in started(tmp_path)):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_shed_prompt_is_overload_and_the_others_end(llm: LLM) -> None:
    prompts: list[Prompt] = [[5], [SHED], [6]]
    with pytest.raises(Overloaded, match="too much") as caught:
        llm.generate(prompts, SamplingParams(max_tokens=2000))
    assert caught.value.retry_after == 2.5
    params = SamplingParams(max_tokens=2)
    (output,) = llm.generate([[5]], params, objectives="ttft=1s", service_class="interactive")
    assert len(output.outputs[0].token_ids) == 2
    with pytest.raises(InvalidRequest) as refused:
        llm.chat([{"role": "user", "content": "Hi"}], params, service_class="soon")  # type: ignore[arg-type]
    assert refused.value.field == "service_class"
