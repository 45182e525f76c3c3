"""The report on one run: what it trained on what, how it learned, what it can and cannot do, and who signs it."""
