"""The matrix: every claim of every pattern, judged on one running architecture, against what is
expected there and why.

NAME.toml beside this file has the expectations for the target of that name, NAME/ARCHITECTURE.toml
what differs in its other architectures.
"""
