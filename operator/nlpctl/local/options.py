"""Options that several commands have."""

from __future__ import annotations

import click

files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Manifests, as for kubectl apply: files, folders, or `-` for the standard input. Repeatable.",
)
