"""Side-by-side measurements: refmta beside real servers, in one run, on one disk.

Run `python -m bench`; `python -m bench.disk` measures the disk alone. Absolute numbers belong to
one machine in one hour, so what counts is always the ratio within one run.
"""
