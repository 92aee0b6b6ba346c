"""Sign firmware updates: TUF metadata with quorums, product lines and patches.

The door of the library; everything else is private and may change.
"""

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

from hillhold_signer.adding import add_release
from hillhold_signer.ceremony import Ceremony, Expiry, NamedKey, OnlineKey, Team, read_ceremony
from hillhold_signer.examples import example_signer
from hillhold_signer.hsm import TokenSigner
from hillhold_signer.images import ImagePlan, sign_image
from hillhold_signer.keys import load_public, load_signer
from hillhold_signer.lines import add_product
from hillhold_signer.patching import PatchFrom
from hillhold_signer.products import Caps, Product
from hillhold_signer.publish import OnlineSigners
from hillhold_signer.releases import Wish
from hillhold_signer.repository import Repository
from hillhold_signer.verify import verify_tree

__all__ = [
    "Caps",
    "Ceremony",
    "Expiry",
    "ImagePlan",
    "NamedKey",
    "OnlineKey",
    "OnlineSigners",
    "PatchFrom",
    "Product",
    "Repository",
    "Team",
    "Wish",
    "add_product",
    "add_release",
    "example_signer",
    "load_public",
    "load_signer",
    "read_ceremony",
    "sign_image",
    "verify_tree",
]

# Whoever imports a part of this package finds our signer behind `hsm:`, in place of securesystemslib's.
SIGNER_FOR_URI_SCHEME[TokenSigner.SCHEME] = TokenSigner
