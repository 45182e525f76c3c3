"""Attention in which a prompt is computed once for all its completions: in training over a tree of both, in sampling
over a KV cache in which a group's rows share their prompt's keys and values."""
