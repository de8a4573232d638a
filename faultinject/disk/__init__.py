"""Disk faults: no room, errors, too few descriptors, short writes, read-only or slow file systems.

faults      the table: what fails, by which means, and why a disk may do so
calls       which call is about which file; the census of a server's calls
whereabouts paths in calls, made absolute
grounds     where the mail lies, as the server's processes name it
trust       whether a failed sync was trusted, by the calls
controls    of `trust`: calls that it must refuse
steps       which steps a sweep makes
injections  how each kind of fault is brought about
room        small file systems, whose room is taken away
shorten     a program that makes writes shorter
descriptors limits on descriptors of running processes
sender      who sends
trial       a letter while a fault comes and goes
aside       what a server has put aside
verdicts    what is judged of it
sweep       one fault at each call in turn, against one server
harness     sweeps as cases
show        a sweep, for people and for programs
command     refmta-fault disk
"""
