"""The command line: it calls the Python API, and prints errors as what, where and hint."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `grandrounds` command."""
    from grandrounds.cli.errors import errors_shown

    with errors_shown():
        from grandrounds.cli.app import app
        from grandrounds.cli.usage import run_command

        run_command(app)


if __name__ == "__main__":
    main()
