"""The claims of confinement refuse a refmta that confines itself badly: trees of mutated source,
really started, each wrong found by the claim that is named for it.
"""

from __future__ import annotations

import pytest

from specs.patterns.claims import claims, experiments
from specs.patterns.gather import gather
from specs.patterns.observation import Observation
from subjects.architecture import Architecture
from subjects.confinement_controls import PATTERNS
from subjects.confinement_mutants import TREES, tree

pytestmark = pytest.mark.needs("root")

#: The runs without each layer take long, and are not what these mutants break.
EXPERIMENTS = tuple(each for each in experiments(PATTERNS) if each.name != "layers")
CLAIMS = {
    each.key: each
    for each in claims(PATTERNS)
    if each.name
    not in (
        *("any_layer_may_go", "attacks_are_real", "a_layer_that_goes_is_gone"),  # need a start each
        "a_seized_spawner_gains_little",  # expected to fail, see specs/matrix
    )
}


@pytest.fixture(scope="module", params=TREES)
def seen(request, tmp_path_factory) -> tuple[str, Observation]:
    """What is seen of a server whose source has these mutants."""
    directory = tmp_path_factory.mktemp(request.param)
    for each in (directory, *directory.parents):  # compartments are users of their own
        if each.stat().st_mode & 0o777 == 0o700 and each.stat().st_uid == 0:
            each.chmod(0o711)
    python = tree(directory / "python", TREES[request.param])
    told: list[str] = []
    return request.param, gather(lambda: Architecture(python), "refmta", EXPERIMENTS, told.append)


def test_each_wrong_is_refused_by_the_claim_that_names_it(seen):
    name, observation = seen
    said = {key: claim.judge(observation) for key, claim in CLAIMS.items()}
    if name == "twin":
        assert {key: texts for key, texts in said.items() if texts} == {}
    for mutant in TREES[name]:
        assert any(mutant.word in text for text in said[mutant.claim]), (mutant.name, said)
