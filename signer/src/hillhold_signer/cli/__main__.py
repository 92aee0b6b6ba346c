"""`python -m hillhold_signer.cli`, where scripts are not on the path."""

from hillhold_signer.cli import main

main(prog_name="hillhold")
