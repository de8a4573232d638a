"""The page's document, and what makes it safe to open; how it looks is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from unit.faultinject.toy_campaign import campaign
from unit.faultinject.toy_harness import BUG

from faultinject import cases
from faultinject.campaign.records import Campaign, Smallest
from faultinject.page import page
from faultinject.page.document import MOST_EVIDENCE, MOST_HELD, document, families

TARGETS = ("sound", "buggy", "known", "absent", "raising", "nasty")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return campaign(tmp_path_factory.mktemp("toys"), *TARGETS)


@pytest.fixture(scope="module")
def html(records):
    return page.html(records)


class Scripts(HTMLParser):
    """All script elements, as a browser would cut them; and every attribute of every element."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes, self._open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._open = tag == "script"
        if self._open:
            self.found.append([dict(attrs).get("type"), ""])

    def handle_endtag(self, tag):
        self._open = False

    def handle_data(self, data):
        if self._open:
            self.found[-1][1] += data


def test_every_cell_is_there_with_its_state(records):
    shown = document(records)
    states = {(e["target"], e["harness"]): e["state"] for e in shown["cells"]}
    assert len(states) == 12
    assert [states[each, "toys"] for each in TARGETS] == [
        "held", "found", "known", "unavailable", "broken", "found",
    ]  # fmt: skip


def test_every_row_carries_the_file_that_replays_it(records):
    shown = document(records)
    for row in [*shown["rows"], *shown["smallest"]]:
        case = cases.decode(row["file"].encode(), "row")
        assert (case.target, case.harness) == (row["target"], row["harness"])
    assert {(each["target"], each["harness"]) for each in shown["smallest"]} == {
        (target, harness) for target in ("buggy", "nasty") for harness in ("toys", "more-toys")
    }
    for each in shown["smallest"]:
        assert set(json.loads(each["file"])["settings"]["faults"]) == BUG
        assert each["evidence"]


def test_what_is_known_says_why(records):
    rows = [e for e in document(records)["rows"] if e["target"] == "known" and e["findings"]]
    assert rows and all(f["known"] == "it promises nothing" for e in rows for f in e["findings"])


def test_large_campaigns_are_bounded_and_say_what_is_left_out(tmp_path):
    shown = document(campaign(tmp_path, "sound", "buggy", names=("toys",), cases=400))
    sound, buggy = shown["cells"]
    rows = [each for each in shown["rows"] if each["target"] == "sound"]
    assert len(rows) == MOST_HELD and sound["left_out"] == 400 - MOST_HELD
    found = [e for e in shown["rows"] if e["target"] == "buggy" and e["state"] == "found"]
    assert buggy["cases"] == 400 and sum(bool(each["evidence"]) for each in found) == MOST_EVIDENCE


def test_an_empty_campaign_has_a_page_too():
    first = Campaign(seed=1, targets=("sound",), harnesses=("toys",))
    assert document([first])["cells"][0]["state"] == "not run"
    assert "<title>" in page.html([first])


def test_it_fetches_nothing(html):
    addresses = [v for _, name, v in Scripts(html).attributes if name in ("src", "href", "action")]
    assert addresses == ["data:,"]


def test_only_the_two_programs_may_run(html):
    scripts = Scripts(html).found
    assert [kind for kind, _ in scripts] == ["application/json", None, None]
    (policy,) = (v for t, n, v in Scripts(html).attributes if n == "content" and "script-src" in v)
    for _, text in scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)


def test_what_a_server_said_stays_data(html):
    data = json.loads(Scripts(html).found[0][1])
    texts = [f["text"] for row in data["rows"] for f in row["findings"] if row["target"] == "nasty"]
    assert texts and all(each.startswith("</script><script>") for each in texts)
    assert html.count("<script") == html.count("</script") == 3


def test_the_control_of_it_unescaped_data_would_end_the_block(records):
    text = json.dumps({"rows": document(records)["rows"]})
    assert len(Scripts(f"<script type='application/json'>{text}</script>").found) > 1


def test_findings_that_say_where_are_counted_together():
    counted = Counter({"given_up at a": 2, "given_up at b": 1, "lost under P1": 4, "lost": 1})
    assert families(counted) == {"given_up": 3, "lost under P1": 4, "lost": 1}


def test_a_finding_that_is_not_shrunk_has_the_case_in_which_it_was_found(records):
    shrunk = {(e["target"], e["harness"]): e["file"] for e in document(records)["smallest"]}
    early = [each for each in records if not isinstance(each, Smallest)]
    found = document(early)["smallest"]
    assert {(each["target"], each["harness"]) for each in found} == {*shrunk}
    for each in found:
        assert (each["ending"], each["runs"], each["tries"]) == ("not shrunk", 0, 0)
        case = cases.decode(each["file"].encode(), "card")
        assert set(case.settings["faults"]) > BUG and each["name"].endswith("-lost.json")
