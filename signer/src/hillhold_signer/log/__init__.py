"""The transparency log: an append-only Merkle log in files, as C2SP's tlog-tiles lays them out, which other people's tools verify.

- `merkle`: hashes and proofs of RFC 6962; `tiles`: their layout; `tree`: reading, where nothing unproven is returned
- `note`, `checkpoint`, `proof`: C2SP signed-note with tlog-cosignature, tlog-checkpoint, tlog-proof
- `stores`: folders and servers; `writer`: appending; `audit`: checking all of it
- `events`: what Hillhold's own entries say
"""

from hillhold_signer.log.audit import audit, check_consistent, fetch_checkpoint, open_kept
from hillhold_signer.log.checkpoint import Checkpoint, SignedCheckpoint
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.log.note import NoteSigner, Verifier, note_signer, note_verifier
from hillhold_signer.log.proof import Proof
from hillhold_signer.log.stores import FolderStore, Store, UrlReader
from hillhold_signer.log.tree import Tree
from hillhold_signer.log.writer import Log, create_log, open_log, prove_entry

__all__ = [
    "Checkpoint",
    "Event",
    "FolderStore",
    "Kind",
    "Log",
    "NoteSigner",
    "Proof",
    "SignedCheckpoint",
    "Store",
    "Tree",
    "UrlReader",
    "Verifier",
    "audit",
    "check_consistent",
    "create_log",
    "fetch_checkpoint",
    "note_signer",
    "note_verifier",
    "open_kept",
    "open_log",
    "prove_entry",
]
