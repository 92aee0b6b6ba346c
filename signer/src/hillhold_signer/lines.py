"""Changes of product lines: top-level targets, signed by their quorum, say which lines there are and what each may do."""

from __future__ import annotations

from collections.abc import Sequence

from tuf.api.metadata import Targets

from hillhold_signer import encoding
from hillhold_signer.difference import GRACE
from hillhold_signer.errors import ProductRefused
from hillhold_signer.products import Product, with_hardware, with_line
from hillhold_signer.repository import Repository


def add_product(repository: Repository, product: Product, now: int) -> None:
    """Draft a new product line: its delegation in targets, and the first, empty version of its role.

    Raises:
        ProductRefused, CeremonyRefused, PublicKeyMaterialRefused: the product.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        product.check(demo=edit.config.demo)
        targets = with_line(edit.targets(), product)
        grace = product.caps.max_offline_grace
        extra = {GRACE: grace} if grace else {}
        line = Targets(version=1, expires=encoding.utc(now + edit.config.expiry.lines), unrecognized_fields=extra)
        if edit.layout.metadata(f"1.{product.name}.json").exists():
            raise ProductRefused(f"product line {product.name}", expected="a new name", got="one that was published")
        edit.remember(product.team.keys)
        edit.save(product.name, line)
        edit.save("targets", targets)


def add_hardware(repository: Repository, product: str, hardware: Sequence[str], now: int) -> None:
    """Draft targets in which a line may name more hardware.

    Raises:
        ProductRefused: no such line, or a malformed id.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        edit.save("targets", with_hardware(edit.targets(), product, hardware))
