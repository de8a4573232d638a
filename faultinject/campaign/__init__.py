"""A campaign: many cases, over targets and harnesses, within a budget; resumable, and shrunk.

    seed --> cells (a target under a harness) --> portions --> engine --> outcomes --> results.jsonl
                                                     ^                       |             '--> page
                                                     '----- shrinking <------'

Rules a reader may rely on
- The seed decides what the k-th case of each cell is: a small portion of what its harness plans
  first, the whole of it later (`portions`).  How far each cell gets within the budget depends on
  the machine: the cell that has had the least time comes next, and shrinking has no more of it than
  all cells together (`agenda`).
- What the end of the budget cuts off is written down, and told; the next start runs it again.
- Each case runs in processes of its own; as root in pid and mount namespaces of their own, so that
  with them everything is gone that they started or mounted, whatever happened (`job`).
- An outcome counts when its line is synced in `results.jsonl`; one that was being computed when
  the campaign was killed is computed again, none is lost and none is counted twice (`results`).
- A finding that its target is not known for is shrunk, once for each cell and finding, and its
  smallest case becomes a file that `refmta-fault replay` runs again (`shrink`).

What it doesn't do: judge.  Verdicts are the harnesses'.
"""
