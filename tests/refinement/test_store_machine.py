"""The stores on long walks: chunks and Maildir with kill, power cut and reopen among the rules.

`test_stores.py` tries every crash state of short histories. Here histories are long and have many
crashes: what one crash left is the ground on which the next group is committed, marks are appended
behind torn marks, and recovery itself is cut off. The walks run on the model disk (any of the
persistence models, drawn for each crash) and on a real directory beside it.

Invariants, each caught by a mutant below:
- acknowledged_present: what was acknowledged is there, until it was freed or read;
- visible_is_complete: what can be read has the octets that were submitted under that name;
- nothing_is_dropped: a file in the queue is, after recovery, whole there or in damaged/;
- marks_are_ours: the marks read are the first of those that were read and appended before, in
  order; what one crash took back does not return in another;
- marks_stay: without a crash, all of them;
- one_file_per_message: a delivery done again replaces the first, until a reader took it (Maildir);
- nothing_left_over: no half-written file of ours stays in tmp/, others' do; no handle stays open.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from refinement.machines import breaks, made, walk
from refinement.mailbox_walk import Maildir
from refinement.queue_walk import Chunks, Marks

from specs.kernel.mutant import hits, mutate

# -- the walks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [Chunks, Marks, Maildir])
def test_long_walks_on_the_model_disk(machine):
    walk(machine, examples=150, steps=40)


@pytest.mark.parametrize("machine", [Chunks, Maildir])
def test_long_walks_on_a_real_directory(machine):
    parent = Path(tempfile.mkdtemp(prefix="refmta-machine-"))
    try:
        walk(made(machine, parent=parent), examples=25, steps=40)
    finally:
        shutil.rmtree(parent)


# -- controls -------------------------------------------------------------------------------------

#: Machine, invariant, what is replaced in its module, by what.
MUTANTS = {
    "recovery drops a torn chunk": (
        Chunks, "nothing_is_dropped",
        '        set_aside(disk, name, "torn" if "cut short" in text else "damaged")',
        "        __mutant_ran__()\n        disk.unlink(chunk_path(name))",
    ),
    "a chunk is set aside without its new name": (
        Chunks, "nothing_is_dropped",
        '        Op("link", f"{CHUNKS}/{name}", target=target),\n',
        "        *([][__mutant_ran__() :]),\n",
    ),
    "chunks are not synced": (
        Chunks, "acknowledged_present",
        '    plan += [Op("sync", path) for path in paths]\n    plan.append(Op("sync_dir", CHUNKS))',
        '    __mutant_ran__()\n    plan.append(Op("sync_dir", CHUNKS))',
    ),
    "the names of chunks are not synced": (
        Chunks, "acknowledged_present",
        '    plan.append(Op("sync_dir", CHUNKS))', "    __mutant_ran__()",
    ),
    "marks behind a torn mark": (
        Marks, "marks_stay",
        "            disk.truncate(handle, end)\n", "            __mutant_ran__()\n",
    ),
    "a torn mark cut off without a sync": (
        Marks, "marks_are_ours",
        "            disk.sync(handle)\n", "            __mutant_ran__()\n",
    ),
    "mail is not synced": (
        Maildir, "visible_is_complete",
        '    plan += [Op("sync", path) for path in temporary]\n', "    __mutant_ran__()\n",
    ),
    "names in new/ are not synced": (
        Maildir, "acknowledged_present",
        '    plan.append(Op("sync_dir", f"{mailbox}/new"))\n', "    __mutant_ran__()\n",
    ),
    "a new mailbox is not synced": (
        Maildir, "acknowledged_present",
        "        disk.sync_dir(directory)\n", "        __mutant_ran__()\n",
    ),
    "a second delivery under another name": (
        Maildir, "one_file_per_message",
        "R{index}.{safe}", "R{__mutant_hits__[0] + __mutant_ran__()}.{safe}",
    ),
    "leftovers in tmp/ stay": (
        Maildir, "nothing_left_over",
        "        if _arrival_s(name) < before_s:", "        if not __mutant_ran__():",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_walk_finds_the_mutant_by_the_named_invariant(name):
    """The twins are the walks above."""
    machine, invariant, old, new = MUTANTS[name]
    module = mutate(machine.module.__name__, [(old, new)])
    assert breaks(made(machine, module=module), invariant, examples=600, steps=40)
    assert hits(module)
