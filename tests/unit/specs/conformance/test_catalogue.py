"""The catalogue, and how much of it is covered."""

from __future__ import annotations

import pytest

from specs.conformance import catalogue
from specs.conformance.registry import all_cases


def rows():
    return catalogue.coverage(all_cases())


def test_every_clause_is_covered_or_explained():
    assert len(rows()) == len(catalogue.clauses()) >= 594
    assert all(each.reason for each in rows() if each.state != "covered")


#: What a server must, and no case looks at yet; the reasons stand in `uncovered`.
LEFT = ["4468-3.2-a"]


def test_all_that_a_server_must_is_covered_unless_it_can_not_be_observed():
    left = [
        each.clause.id for each in rows()
        if each.clause.role == "server" and each.clause.level in ("MUST", "MUST NOT")
        and each.state == "not yet covered"
    ]  # fmt: skip
    assert left == LEFT


@pytest.mark.parametrize(
    ("roles", "least"), [(["server", "delivery"], 0.8), (["client", "relay"], 0.6)]
)
def test_enough_is_covered(roles, least):
    assert catalogue.share(rows(), roles=roles) >= least


def test_a_clause_without_cases_and_reason_is_a_mistake():
    cases = [each for each in all_cases() if "5321-4.1.1.10-a" not in each.clauses]
    with pytest.raises(catalogue.CatalogueError, match=r"5321-4\.1\.1\.10-a"):
        catalogue.coverage(cases)


def test_a_reason_beside_a_case_is_a_mistake(monkeypatch):
    reasons = {**catalogue.uncovered(), "5321-4.1.1.10-a": "not yet covered: no"}
    monkeypatch.setattr(catalogue, "uncovered", lambda: reasons)
    with pytest.raises(catalogue.CatalogueError, match="covered and explained"):
        catalogue.coverage(all_cases())
