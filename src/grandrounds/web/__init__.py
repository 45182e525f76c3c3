"""What every server of ours shares: a port of this machine, the names it answers to, files, and text made visible."""
