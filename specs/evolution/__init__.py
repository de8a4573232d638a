"""Patterns generate architecture (paper, abstract; claim C26): what each pattern does, measured.

An evolution is a line of architectures, each made from the one before it by one pattern, and each
of them runs.  Every one is started, put under the same load and looked at from outside; its commit
protocols are enumerated; its speed is taken beside that of all the others.  A step that changes no
number has no effect, and that is a finding: a name is not a pattern.

`steps` says what an evolution is; `look`, `losses` and `rates` take the numbers, `take` all of
them; `effects` compares neighbours; `show` and `picture` tell; `command` is `refmta-spec evolve`.
"""
