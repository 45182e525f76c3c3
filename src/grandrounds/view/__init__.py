"""The viewer: a local page with a run's curves, warnings and groups. It only reads the run's folder."""
