"""The embedded clinic: a generated teaching world whose right answers and reasoning are known exactly."""

NOTICE = "Teaching world, not clinical knowledge: its findings and their strengths are synthetic."
