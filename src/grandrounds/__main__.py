"""`python -m grandrounds` is the `grandrounds` command."""

from grandrounds.cli import main

main()
