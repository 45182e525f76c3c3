"""Domains (fields of use), one folder each. `grandrounds.domain` finds them here; no other file names them."""
