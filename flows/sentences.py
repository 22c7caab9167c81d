"""How a command of the command line ends in an error: one sentence on standard error, and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from augment.errors import AugmentError
from flows.printing import print_json


class Sentences(TyperGroup):
    """A group of commands in which an error is one sentence on standard error and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: with the status of the error that ended it.
        """
        try:
            return super().invoke(ctx)
        except AugmentError as error:
            _complain(ctx, error, str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _complain(ctx, None, "interrupted; the same command again goes on from where it was.")
            raise typer.Exit(1) from None
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  (the reader of the pipe is gone)
            raise typer.Exit(1) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] in ("click", "typer"):
                raise  # usage errors and exits: Typer shows them and gives their status
            _complain(ctx, error, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")
            raise typer.Exit(1) from None


def _complain(ctx: Any, error: Exception | None, sentence: str) -> None:
    """Say what went wrong; the traceback too where it was asked for or an error is nobody's sentence."""
    asked = ctx.find_root().obj or {}
    if error is not None and (asked.get("verbose") or os.environ.get("AUGMENT_DEBUG")):
        traceback.print_exception(error)
    print(f"augment: {sentence}", file=sys.stderr, flush=True)
    if asked.get("json"):
        kind = type(error).__name__ if error is not None else "Interrupted"
        print_json({"error": {"kind": kind, "message": sentence}})
