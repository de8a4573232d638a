"""`refmta init`: a configuration that works, with what a newcomer would want to change."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click

from refmta.cli.options import json_option
from refmta.wire.address import is_domain

TEMPLATE = """\
# refmta: see `refmta check` for what is wrong, where.
hostname = "{hostname}"
postmaster = "{postmaster}"
listen = [{listen}]
spool = "{spool}"

[domains."{domain}"]
mailboxes = ["postmaster"]     # kept below {spool}/mail
# system_users = true          # every user of this machine: ~/Maildir
# aliases = {{ info = ["postmaster@{domain}"] }}

[relay]                        # without these nobody sends to other hosts through this server
# networks = ["127.0.0.0/8", "::1"]    # whose clients may send anywhere
# domains = ["backup.example"]         # taken from anybody, for another server of yours
# next_hops = {{ "lan.example" = "[192.0.2.7]:25" }}    # by this host, not by MX records
# smarthost = "[relay.example]:587"    # everything else by this one

[reports]
# postmaster = ["failed", "double"]    # gets a copy of each report; reports that can't be delivered
# delay_warning_s = 14400              # when a sender hears of a delay; 0: never
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--system", is_flag=True, help="For the whole machine: /etc/refmta.toml, port 25.")
@click.option("--domain", default="", help="The domain that receives mail.")
@json_option
def init(directory: Path | None, system: bool, domain: str, as_json: bool) -> None:
    """Write a configuration into DIRECTORY (or, with --system, into /etc)."""
    if system == (directory is not None):
        raise click.UsageError("give a DIRECTORY, or --system")
    hostname = _hostname()
    domain = domain or hostname
    if not is_domain(domain):
        raise click.BadParameter(f"not a domain name: {domain}", param_hint="--domain")
    path = Path("/etc/refmta.toml") if directory is None else directory / "refmta.toml"
    if path.exists():
        raise click.ClickException(f"{path} is there already; it was not changed")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(
        hostname=hostname,
        postmaster=f"postmaster@{domain}",
        domain=domain,
        listen='"0.0.0.0:25", "[::]:25"' if system else '"127.0.0.1:2525"',
        spool="/var/spool/refmta" if system else "spool",
    )
    path.write_text(text)
    if as_json:
        click.echo(json.dumps({"wrote": str(path)}))
        return
    click.echo(f"wrote {path}; next: refmta check -c {path} && refmta serve -c {path}")


def _hostname() -> str:
    """The machine's name if it can stand in a mail address."""
    name = socket.getfqdn()
    return name if is_domain(name) and "." in name else "localhost.localdomain"
