"""What a run will need before it begins: memory by part, what still fits, and how long a round takes."""
