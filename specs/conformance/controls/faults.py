"""All deliberate single faults of the control server, each tied to the case that must find it."""

from __future__ import annotations

from functools import cache

from specs.conformance.controls import (
    faults_5321_commands,
    faults_5321_content,
    faults_5321_replies,
    faults_extensions,
    faults_reports,
    faults_security,
)
from specs.conformance.controls.planting import Fault


@cache
def all_faults() -> tuple[Fault, ...]:
    """In the order of their files.  Raises ValueError if a name is there twice."""
    files = (
        faults_5321_commands, faults_5321_replies, faults_5321_content, faults_extensions,
        faults_security, faults_reports,
    )  # fmt: skip
    found = tuple(fault for file in files for fault in file.FAULTS)
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(f"there twice: {[each for each in names if names.count(each) > 1]}")
    return found
