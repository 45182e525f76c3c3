"""Samples groups of completions for prompts, with log-probs of the distribution that each token was sampled from."""
