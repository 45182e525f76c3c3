"""Attention in which a prompt is computed once for all its completions. In training it runs over a tree of prompts and
completions, in sampling over a KV cache in which a group's rows share their prompt's keys and values."""
