"""Faces and assets: ours joins none, and a row that does is found by its names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refmta.architectures.architecture import Architecture, talk
from refmta.architectures.catalogue import ARCHITECTURES, find
from refmta.architectures.refmta import REFMTA
from refmta.patterns.defense_in_depth import LAYERS, without
from refmta.patterns.distributed_delegation import ASSETS, FACES, joined, kept_off, way

QUEUE = next(each for each in ASSETS if each.name == "queue")
CLIENTS = next(each for each in FACES if each.name == "clients")


def changed(which: str, /, **columns: Any) -> Architecture:
    rows = tuple(
        replace(row, **columns) if row.name == which else row for row in REFMTA.compartments
    )
    return replace(REFMTA, compartments=rows)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_faces_and_the_assets_are_there_at_all(name: str):
    """Else nothing would be judged."""
    rows = find(name).compartments
    for face in FACES:
        assert any(face.shows(row) for row in rows), face.name
    for asset in ASSETS:
        assert any(asset.opens(row) for row in rows), asset.name


@pytest.mark.parametrize("layer", ["", *LAYERS])
def test_ours_joins_none_whichever_layer_is_taken(layer: str):
    layers = without(LAYERS, [layer])
    assert joined(REFMTA.compartments, layers) == []
    for face in FACES:
        for asset in ASSETS:
            assert len(way(REFMTA.compartments, REFMTA.talks, layers, face, asset)) >= 2


@pytest.mark.parametrize(
    ("architecture", "layers", "found"),
    [
        (
            changed("smtpd", jail="spool", changes=("/chunks",)), LAYERS,
            [("smtpd", "clients", "queue")],
        ),
        (changed("enqueue", listener=True), LAYERS, [("enqueue", "clients", "queue")]),
        (
            changed("accounts", roles=("accounts", "remote")), LAYERS,
            [("accounts", "next hops", "user database")],
        ),
        (
            changed("local", roles=("local", "remote")), LAYERS,
            [("local", "next hops", "mailboxes")],
        ),
    ],
)  # fmt: skip
def test_a_row_that_joins_is_named(architecture: Architecture, layers: Any, found: Any):
    assert joined(architecture.compartments, layers) == found


def test_without_users_jail_and_landlock_every_face_has_everything():
    layers = without(LAYERS, ["users", "jail", "landlock"])
    found = joined(REFMTA.compartments, layers)
    assert set(found) == {
        (name, face, asset.name)
        for name, face in (("smtpd", "clients"), ("remote", "next hops"))
        for asset in ASSETS
    }


def test_a_shared_user_is_no_guard():
    shared = replace(
        REFMTA,
        compartments=tuple(
            replace(row, user="mail") if row.name in ("smtpd", "enqueue") else row
            for row in REFMTA.compartments
        ),
    )
    row = shared.row("smtpd")
    assert kept_off(row, QUEUE, shared.compartments, LAYERS) == ("jail", "landlock")
    assert kept_off(REFMTA.row("smtpd"), QUEUE, REFMTA.compartments, LAYERS) == (
        "users", "jail", "landlock",
    )  # fmt: skip
    assert joined(shared.compartments, ("users",)) == [("smtpd", "clients", "queue")]


def test_who_sees_the_whole_machine_is_kept_off_by_its_user_alone():
    row = REFMTA.row("accounts")
    assert kept_off(row, QUEUE, REFMTA.compartments, LAYERS) == ("users",)


def test_the_way_goes_over_channels_and_is_the_shortest():
    rows = REFMTA.compartments
    assert way(rows, REFMTA.talks, LAYERS, CLIENTS, QUEUE) == ("smtpd", "enqueue")
    shorter = (*REFMTA.talks, talk("smtpd", "qmgr"))
    mailboxes = next(each for each in ASSETS if each.name == "mailboxes")
    assert way(rows, shorter, LAYERS, CLIENTS, mailboxes) == ("smtpd", "qmgr", "local")
    assert way(rows, REFMTA.talks, LAYERS, CLIENTS, mailboxes) == (
        "smtpd", "enqueue", "qmgr", "local",
    )  # fmt: skip
    assert way(rows, (), LAYERS, CLIENTS, QUEUE) == ()


def test_the_monolith_joins_everything():
    sendmail = find("sendmail")
    both = joined(sendmail.compartments, sendmail.layers)
    assert {(face.name, asset.name) for face in FACES for asset in ASSETS} == {
        (face, asset) for name, face, asset in both if name == "daemon"
    }


def test_what_is_shared_or_not_jailed_joins():
    """qmail's server reads what everybody may; whoever is postfix's user has postfix's queue."""
    for name, expected in (
        ("qmail", {("smtpd", "clients", "user database")}),
        ("postfix", {("smtpd", "clients", "queue"), ("smtp", "next hops", "queue")}),
        ("sendmailx", {("smtps", "clients", "queue")}),
    ):
        found = find(name)
        assert expected <= set(joined(found.compartments, found.layers)), name
