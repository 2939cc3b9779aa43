"""Continue a few prompts in one batch, from Python."""

from headway import LLM, SamplingParams


def main() -> None:
    prompts = ["The capital of France is", "Water boils at", "The opposite of hot is"]
    with LLM() as llm:
        for output in llm.generate(prompts, SamplingParams(max_tokens=12, temperature=0)):
            print(f"{output.prompt!r} -> {output.outputs[0].text!r}")


if __name__ == "__main__":
    main()
