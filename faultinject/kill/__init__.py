"""SIGKILL before each system call that matters, in every process of a server.

scripts     the messages that are sent: what a point is a point of
calls       which system calls matter
ptrace      the system call ptrace(2), and what a stop says
tracer      a program: follows every process of a server, and strikes at one call
grip        that program, for the harness
plan        what is to be tried, and whose turn is next
points      what is tried, and what came of it, as values; the file that a run goes on from
stand       one server under one tracer: point after point, and the account
siege       several of them, until every point was tried
leftovers   what a run that was killed has left behind
harness     all of it as a harness of cases
"""
