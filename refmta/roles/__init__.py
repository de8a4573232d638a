"""Roles: one job each, as thin I/O around `protocol` and `stores`.

A role gets a `Context` and speaks on channels; it knows neither the architecture that it runs in
nor the process, nor who its peers are besides the messages that the border allows.
"""
