"""The `hillhold` command: thin over the library, one module for each group of commands."""

from __future__ import annotations

from importlib.metadata import version

import click

from hillhold_signer.cli.adding import add
from hillhold_signer.cli.backups import backup, restore, resume
from hillhold_signer.cli.bundles import bundle
from hillhold_signer.cli.imagekeys import image_key
from hillhold_signer.cli.images import image
from hillhold_signer.cli.importing import import_command
from hillhold_signer.cli.keys import key
from hillhold_signer.cli.lines import list_, show
from hillhold_signer.cli.logs import log
from hillhold_signer.cli.onlinekeys import keys
from hillhold_signer.cli.people import account
from hillhold_signer.cli.products import product
from hillhold_signer.cli.provisioning import provisioning
from hillhold_signer.cli.pruning import prune
from hillhold_signer.cli.publishing import publish, refresh, verify
from hillhold_signer.cli.releases import release, withdraw
from hillhold_signer.cli.repositories import init, status
from hillhold_signer.cli.roots import renew, revoke, root
from hillhold_signer.cli.serving import serve, service
from hillhold_signer.cli.shell import completion
from hillhold_signer.cli.signing import attach, diff, drop, request, sign
from hillhold_signer.cli.terminal import App
from hillhold_signer.cli.tokens import token

__all__ = ["main"]


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("hillhold-signer"), prog_name="hillhold")
def main() -> None:
    """Sign firmware updates, so that devices only move forward.

    \b
    The way of a release:
      hillhold init         once: a repository from a ceremony file
      hillhold product add  once per product line
      hillhold image sign   the image, with the bootloader's key
      hillhold add          the image to its line's draft
      hillhold sign         each person, with their own key
      hillhold publish      what has its signatures
    """


_command: click.Command
for _command in (list_, show, image_key):
    product.add_command(_command)
for _command in (backup, restore, resume, keys):
    service.add_command(_command)
for _command in (
    *(key, init, root, renew, revoke, product, image),
    *(add, import_command, withdraw, release, diff, sign, request, attach, drop, status),
    *(publish, refresh, prune, bundle, provisioning, verify, log, serve, service, account, token, completion),
):
    main.add_command(_command)
