"""From prompts to groups of completions, with the log-probs of the distribution they were sampled from."""
