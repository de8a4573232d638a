"""refmta as the specs see it: adapters, proofs and mutants, registered by entry points.

The specs share no code with what they judge; this package is the one place that knows both.
"""
