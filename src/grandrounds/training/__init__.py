"""The run: warm-up, rounds, checkpoints, trace, and what watches over them."""
