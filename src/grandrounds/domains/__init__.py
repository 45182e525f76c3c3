"""Fields of use, a folder each; `grandrounds.domain` finds them here, and nothing else names them."""
