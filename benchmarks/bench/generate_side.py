"""transformers' side: `generate` alone, on the whole round's rows at once."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessorList

from bench.forced import ForcedEnds
from bench.side import Job, serve
from bench.workloads import END, PAD, lengths, prompt_tokens


def compute(job: Job) -> dict[str, Any]:
    """Seconds of each timed sampling of a round."""
    import transformers

    workload = job.workload
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=workload.precision).eval()
    ends = lengths(workload)
    rows = torch.from_numpy(prompt_tokens(workload)).repeat_interleave(workload.group, 0)
    config = GenerationConfig(
        max_new_tokens=workload.max_new,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    schedule = LogitsProcessorList([ForcedEnds(ends, workload.prompt_tokens)])
    steps = []
    for _ in range(job.warmup + job.steps):
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                generation_config=config,
                logits_processor=schedule,
            )
        steps.append({"sampling": time.perf_counter() - started})
        sampled = (out[:, workload.prompt_tokens :] == END).int().argmax(1) + 1
        assert sampled.tolist() == ends.ravel().tolist(), "completions do not end where the schedule says"
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    return {"steps": steps[job.warmup :], "versions": versions}


if __name__ == "__main__":
    serve(compute)
