"""Portions: every case of a plan, small ones first; and the versions that are written down."""

from __future__ import annotations

import io
import tarfile

import pytest
from unit.faultinject.toy_harness import ToyHarness

from faultinject import cases, provisioning
from faultinject.campaign import versions
from faultinject.campaign.portions import ROUNDS, is_sample, portions
from faultinject.cases import Case
from faultinject.provisioning import Recipe


class Planned:
    """A harness of that name, with a plan of these settings."""

    def __init__(self, name, *plan):
        self.name, self._plan = name, plan

    def plan(self, target, seed):
        for settings in self._plan:
            yield Case(harness=self.name, target=target, seed=seed, settings=settings)


def settings_of(name, *plan, target="postfix"):
    return [each.settings for each in portions(Planned(name, *plan), target, 5)]


def test_a_harness_without_rounds_runs_its_plan():
    toys = ToyHarness()
    assert list(portions(toys, "sound", 5)) == list(toys.plan("sound", 5))


def test_samples_of_all_come_first_and_everything_comes_at_last():
    found = settings_of("disk", {"fault": "eio"}, {"fault": "erofs"})
    assert [(each["fault"], each.get("sample")) for each in found] == [
        ("eio", 3), ("erofs", 3), ("eio", 12), ("erofs", 12), ("eio", None), ("erofs", None),
    ]  # fmt: skip


def test_what_is_quick_is_run_whole_and_once():
    live = {"part": "live", "scene": "one"}
    assert settings_of("crash", {"part": "stores"}, live) == [
        {"part": "stores"}, {**live, "most": 6, "samples": 2}, live,
    ]  # fmt: skip


def test_kills_go_kind_by_kind_after_a_sample_of_the_whole_server():
    found = settings_of("kill", {"script": "one", "fault": "kill"}, {"fault": "tree"})
    assert found[0] == {"fault": "tree", "every": 6} and found[-1] == {"fault": "tree"}
    kinds = [each["kind"] for each in found[1:-1]]
    assert {"qmgr", "smtpd", "cleanup", "qmgr worker"} <= {*kinds}
    assert all(each["script"] == "one" for each in found[1:-1])


@pytest.mark.parametrize("name", sorted(ROUNDS))
def test_the_real_plans_have_portions_that_their_harnesses_understand(name):
    """None is the whole of an hour at once; each is a case of its own."""
    harness = cases.load(name)
    found = list(portions(harness, "refmta", 5))
    assert len({each.key for each in found}) == len(found) > 0
    assert {(each.harness, each.target) for each in found} == {(name, "refmta")}
    if name == "disk":
        from faultinject.disk.harness import settings_of

        assert settings_of(found[0]).sample == 3
    if name == "kill":
        from faultinject.kill.harness import planned

        assert planned(found[0].settings, 5).every == 6
    if name == "crash":
        from faultinject.crash.crashes import planned as crashes

        assert {crashes(each.settings, 5).most for each in found} == {6, 1000}
    if name == "power":
        from faultinject.power.injector import settings_of as power

        assert power(found[0]).cuts == 6


def test_a_sample_is_told_apart():
    samples = ({"sample": 3}, {"samples": 2}, {"every": 6})
    assert all(is_sample(Case(harness="x", target="y", settings=each)) for each in samples)
    assert not is_sample(Case(harness="x", target="y", settings={"sample": 0, "kind": "qmgr"}))


# -- versions -------------------------------------------------------------------------------------

STATUS = """Package: postfix-doc
Status: install ok installed
Version: 9.9

Package: postfix
Status: install ok installed
Depends: libc6
Version: 3.7.11-0+deb12u1
Description: a mail server
 Version: 1.1
"""


def test_a_version_is_read_from_the_list_of_packages():
    assert versions.of_status(STATUS, "postfix") == "postfix 3.7.11-0+deb12u1"
    assert versions.of_status(STATUS, "exim") == ""


class Server:
    """A target, as far as its version goes."""

    def __init__(self, name, packages=()):
        self.name = name
        if packages:
            self.recipe = Recipe(name=name, packages=packages)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Writes what a server's root was made from."""
    monkeypatch.setattr(provisioning, "SCRATCH", tmp_path)

    def write(server, *files):
        server.recipe.directory.mkdir(mode=0o700)
        with tarfile.open(server.recipe.archive, "w") as tar:
            for name, text in files:
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        return versions.of(server)

    return write


def test_a_servers_version_is_that_in_its_root(archive):
    said = archive(Server("postfix", ("postfix", "dnsmasq")), ("./var/lib/dpkg/status", STATUS))
    assert said == "postfix 3.7.11-0+deb12u1 (Debian)"


def test_a_distribution_of_python_has_one_too(archive):
    name = "./opt/lib/python3.11/site-packages/toy-1.4.6.dist-info/METADATA"
    assert archive(Server("toy", ("python3-venv",)), (name, "x")) == "toy 1.4.6 (PyPI)"


def test_of_what_was_never_installed_nothing_is_said(archive):
    assert versions.of(Server("postfix", ("postfix",))) == ""
    assert versions.of(Server("toy")) == ""
    assert archive(Server("toy", ("toy",)), ("./etc/motd", "x")) == ""


def test_an_archive_that_is_none_is_no_error(archive):
    server = Server("toy", ("toy",))
    archive(server)
    server.recipe.archive.write_bytes(b"no archive" * 100)
    assert versions.of(server) == ""


def test_our_own_is_said_with_its_commit():
    assert versions.ours().startswith("refmta ")
    assert versions.of(Server("refmta")) == versions.of(Server("refmta:qmail")) == versions.ours()
