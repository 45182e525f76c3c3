"""vLLM's side: sampling alone, on the CPU, in an environment of its own."""

from __future__ import annotations

import os
import time
from typing import Any

# In this process, so that its memory is counted; one GB for keys and values is plenty for every workload here.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from bench.side import Job, serve
from bench.workloads import lengths, prompt_tokens


def compute(job: Job) -> dict[str, Any]:
    """Seconds of each timed sampling of a round."""
    import torch
    import vllm

    workload = job.workload
    engine = vllm.LLM(
        job.model,
        skip_tokenizer_init=True,
        dtype=workload.precision,
        max_model_len=workload.prompt_tokens + workload.max_new,
        max_num_seqs=workload.completions,
        enforce_eager=True,
        seed=0,
    )
    ends = lengths(workload).ravel().tolist()
    prompts = [
        {"prompt_token_ids": tokens.tolist()}
        for tokens in prompt_tokens(workload)
        for _ in range(workload.group)
    ]
    settings = [
        vllm.SamplingParams(temperature=1.0, max_tokens=end, ignore_eos=True, detokenize=False)
        for end in ends
    ]
    steps = []
    for _ in range(job.warmup + job.steps):
        engine.reset_prefix_cache()  # the weights of a training move: nothing may be kept from the last step
        started = time.perf_counter()
        outputs = engine.generate(prompts, settings, use_tqdm=False)
        steps.append({"sampling": time.perf_counter() - started})
        assert [len(output.outputs[0].token_ids) for output in outputs] == ends
    versions = {"vllm": vllm.__version__, "torch": torch.__version__}
    return {"steps": steps[job.warmup :], "versions": versions}


if __name__ == "__main__":
    serve(compute)
