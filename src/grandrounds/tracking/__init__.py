"""Trackers that show a run elsewhere: MLflow, Weights & Biases, Trackio, TensorBoard, or your own."""
