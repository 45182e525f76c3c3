"""Group advantages, losses, packing and the learner: what GRPO computes, blind to medicine and to files."""
