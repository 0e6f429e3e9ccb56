"""The `aqa` command: it parses, calls and prints.

What a command calls is the Python function of the same name (`aqa.run` ...). Heavy modules are imported by the commands
that need them.
"""

from __future__ import annotations

import sys

import typer

from aqa.commands import training, scoring, writing, data  # isort: skip  # noqa: F401  as `aqa --help` lists them
from aqa.commands.app import app, say

LONGEST_LINE = 900  # characters of a message that name what a user gave, however long that is


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. A user's mistake is one line and status 2; see also `signals`."""
    from aqa.system.garbage import end_uncollected
    from aqa.system.signals import stoppable

    end_uncollected()
    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with stoppable():
            status = command.main(args=arguments or ["--help"], prog_name="aqa", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except Exception as error:
        from aqa.usage import explain_error  # here: it imports the schema, which costs more than `aqa --help`

        message = explain_error(error, arguments)
        if message is None:  # a fault of the program
            raise
    lines = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..." for line in message.splitlines()]
    say("aqa: " + "\n".join(lines))
    return 2


if __name__ == "__main__":
    sys.exit(main())
