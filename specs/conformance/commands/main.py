"""refmta-conform: does a server answer as the standards say?

    refmta-conform HOST[:PORT] [SECTION ...]    put the cases to it
    refmta-conform replay FILE --to HOST        play a dialogue of `C:` and `S:` lines
    refmta-conform judge FILE                   is a recorded session one that the standard allows?
    refmta-conform matrix FILE ...              several servers' results, side by side, as a page

Exit codes: 0 fine, 1 unexpected, 2 wrong usage or nothing to be asked, 3 the server can't be
reached (judge: a capture, and no tshark), 130 and 143 interrupted.
"""

from __future__ import annotations

import sys

import click

from specs.conformance.commands.check import check
from specs.conformance.commands.endings import encodable
from specs.conformance.commands.judged import judge_command
from specs.conformance.commands.matrix import matrix_command
from specs.conformance.commands.replayed import replay_command


class Commands(click.Group):
    """A group whose subcommand may be left out: then it is `check`, and the first word a server."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            args = ["check", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("refmta-conform", "HOST[:PORT] [SECTION ...] [OPTIONS]")
        formatter.write_usage("refmta-conform", "replay | judge | matrix ...")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Put a server to the standards (the same as `check`; its options: `check --help`)."""
    encodable()


main.add_command(check, "check")
main.add_command(replay_command, "replay")
main.add_command(judge_command, "judge")
main.add_command(matrix_command, "matrix")

if __name__ == "__main__":
    sys.exit(main())
