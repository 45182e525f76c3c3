"""Grand Rounds: GRPO for language models that show their reasoning."""

__version__ = "0.1.0"
