"""What all commands have in common: how they end, and where their results go."""

from __future__ import annotations

import click
import pytest
import trio
from click.testing import CliRunner

from faultinject import telling


async def _in_a_nursery():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise KeyboardInterrupt


def _plainly():
    raise KeyboardInterrupt


@pytest.mark.parametrize("interrupted", [_plainly, lambda: trio.run(_in_a_nursery)])
def test_whoever_is_interrupted_ends_with_130_and_a_line(interrupted):
    """1 would be a finding."""
    group = telling.Commands("it")
    group.add_command(click.Command("run", callback=interrupted))
    done = CliRunner().invoke(group, ["run"])
    assert done.exit_code == telling.EX_INTERRUPTED == 130
    assert done.stderr == "interrupted\n" and done.stdout == ""


def test_another_group_of_errors_is_not_hidden():
    def broken():
        raise ExceptionGroup("two", [ValueError("x"), OSError("y")])

    group = telling.Commands("it")
    group.add_command(click.Command("run", callback=broken))
    assert isinstance(CliRunner().invoke(group, ["run"]).exception, ExceptionGroup)


@pytest.mark.parametrize("where", ["file/report", "nowhere/report", "."])
def test_a_report_that_can_not_be_written_is_said_before_anything_is_run(where, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        telling.check_outputs(tmp_path / where)
    assert str(tmp_path) in capsys.readouterr().err


def test_what_is_checked_is_not_made(tmp_path):
    telling.check_outputs(tmp_path / "report", tmp_path / "cases")
    assert [each.name for each in tmp_path.iterdir()] == ["cases"]


def test_a_report_goes_to_stdout_alone_or_to_a_file_beside_the_text(tmp_path, capsys):
    telling.tell({"a": 1}, telling.Path("-"), lambda to: to.print("text"))
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'
    telling.tell({"a": 1}, tmp_path / "report", lambda to: to.print("[b]text"))
    assert capsys.readouterr().out == "[b]text\n"
    assert (tmp_path / "report").read_text() == '{\n  "a": 1\n}\n'
