"""`refmta-conform matrix FILE ...`: several servers side by side: results that are there (--json of
a run), and servers to be measured now.

    # servers.toml: a table for each; keys are options of refmta-conform, without the dashes
    [old]
    address = "127.0.0.1:2525"
    rcpt = ["ada@example.org", "bob@example.org"]
    unknown-rcpt = "nobody@example.org"
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

from specs.conformance import records, summary
from specs.conformance.commands.check import chosen, watched
from specs.conformance.commands.endings import (
    EX_UNREACHABLE,
    EX_USAGE,
    OUTPUT,
    after,
    complain,
    end,
    writable,
    write,
)
from specs.conformance.given import Given
from specs.conformance.options import from_values, pace_options
from specs.conformance.page import page
from specs.conformance.registry import all_cases
from specs.conformance.run import NoTestbed, Run, Unreachable


@click.command("matrix")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE ..."
)
@pace_options
@click.option("--section", "sections", multiple=True, metavar="SECTION",
              help="Of servers that are measured now: only these cases.")  # fmt: skip
@click.option("--html", "html_file", type=OUTPUT, metavar="FILE", help="One self-contained page.")
@click.option("--markdown", "text_file", type=OUTPUT, metavar="FILE", help="A summary per server.")
def matrix_command(
    files: tuple[Path, ...], slow: bool, jobs: int, wait_s: float, sections: tuple[str, ...],
    html_file: Path | None, text_file: Path | None,
) -> None:  # fmt: skip
    """Put results side by side: rows are cases, columns servers, a cell opens its transcript.

    A FILE is a record (--json of a run), or a TOML file with a table for each server that is to be
    measured now.  Exit codes: 0 done, 2 wrong usage, 3 a server can't be reached (the others are
    measured), 130 or 143 after SIGINT or SIGTERM (what was done is written).
    """
    writable(html_file, text_file)
    known = {each.id: each for each in all_cases()}
    cases = chosen(sections, security=False, slow=slow)
    found: list[records.Record | tuple[str, Given]] = []
    try:
        for file in files:
            found += servers(file) if file.suffix == ".toml" else [records.read(file, known)]
    except (records.RecordError, ValueError, OSError) as error:
        end(EX_USAGE, error)
    names = [each.name if isinstance(each, records.Record) else each[0] for each in found]
    if len(set(names)) != len(names):
        end(EX_USAGE, "two of these are results of the same server: give each run a --name")
    code, done = 0, list[records.Record]()
    for each in found:
        if isinstance(each, records.Record):
            done.append(each)
            continue
        runner = Run(given=each[1], cases=cases, jobs=jobs, wait_s=wait_s)
        try:
            done.append(watched(each[0], runner))
        except Unreachable as error:
            complain(f"{each[0]}: {error}")
            code = EX_UNREACHABLE
        except NoTestbed as error:
            end(EX_USAGE, f"{each[0]}: {error}")
        if runner.stopped:
            complain(f"{each[0]}: {runner.stopped}")
            code = after(runner.stopped)
            break
    if not done:
        end(code, "no server could be reached")
    if html_file is None and text_file is None:
        click.echo(summary.markdown(done), nl=False)
    write(html_file, page.page(done).encode())
    write(text_file, summary.markdown(done).encode())
    sys.exit(code)


def servers(path: Path) -> Iterator[tuple[str, Given]]:
    """By name.  Raises ValueError that names the file, the table and the key; OSError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: it is nested too deeply") from None
    if not tables:
        raise ValueError(f"{path}: there is no table of a server in it")
    for name, table in tables.items():
        if not isinstance(table, dict) or not isinstance(table.get("address"), str):
            raise ValueError(f'{path}: {name}: it is a table with an address = "HOST[:PORT]"')
        values = {key: value for key, value in table.items() if key != "address"}
        try:
            yield name, from_values(table["address"], values)
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from None
