"""A run: warm-up, rounds, checkpoints, trace, the guard that stops a hopeless run, and the monitor."""
