"""The command ``anscombe``: `main` starts it, `commands` turns arguments into library calls."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the extra that it needs, say how to install it and exit with code 2."""
    try:
        import rich  # noqa: F401  # only whether it is there
        import typer  # noqa: F401
    except ImportError as error:
        sys.stderr.write(
            f"error: the command line needs {error.name}, which is not installed: "
            'pip install "anscombe-transform[cli]"\n'
        )
        raise SystemExit(2) from None
    from anscombe_transform.cli import certificates, live  # noqa: F401  # their commands
    from anscombe_transform.cli.commands import app

    app(prog_name="anscombe")
