"""A run: warm-up, rounds, checkpoints, trace, and the guard that stops a hopeless run."""
