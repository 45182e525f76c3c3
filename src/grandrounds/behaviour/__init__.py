"""Finds in a reasoning what it does: checks itself, weighs alternatives, revises, cites evidence. Generic, no torch."""
