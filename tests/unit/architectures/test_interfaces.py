"""The machine's addresses, from the kernel's tables as text."""

from __future__ import annotations

import ipaddress
import socket

from refmta.architectures.interfaces import machine_addresses

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 192.0.2.10
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
     |-- 10.0.0.9
        /32 host LOCAL
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 80     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
"""


def test_local_addresses_are_found_and_networks_and_broadcasts_are_not(tmp_path):
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    assert machine_addresses(tmp_path) == (
        "10.0.0.9", "127.0.0.1", "192.0.2.10", "::1", "2001:db8::7",
    )  # fmt: skip


def test_a_machine_without_these_tables_has_none(tmp_path):
    assert machine_addresses(tmp_path) == ()
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    assert "192.0.2.10" in machine_addresses(tmp_path)


def test_one_can_bind_to_each_address_of_this_machine():
    """If the kernel's table reads otherwise one day, this tells."""
    found = machine_addresses()
    assert "127.0.0.1" in found
    for each in map(ipaddress.ip_address, found):
        family = socket.AF_INET if each.version == 4 else socket.AF_INET6
        with socket.socket(family) as probe:
            probe.bind((str(each), 0))
