"""What GRPO computes: group advantages, losses, packing and the learner. Nothing here knows medicine or files."""
