"""Watches a run for signs that it learns the wrong thing: each is named with its likely cause and what to do."""
