"""Where the cases come from: ids of clauses, of the literature and of known faults, in one place.

`STANDARD:CLAUSE` is a requirement (the report has its paraphrase), `tuf:…` a section of the TUF specification, `cve-…` and
`github:owner/repo#n` a fault that an update system had.
"""

from __future__ import annotations

from typing import Final

SUM_4: Final = "iec62443-4-1:SUM-4"  # updates come from whom they say, unaltered
SVV_1: Final = "iec62443-4-1:SVV-1"  # security requirements are tested
SVV_3: Final = "iec62443-4-1:SVV-3"  # vulnerability testing: malformed input, known weaknesses
CR_3_4: Final = "iec62443-4-2:CR-3.4"  # integrity of software
EDR_3_10: Final = "iec62443-4-2:EDR-3.10"  # updates, and their authenticity before they are installed
EDR_3_14: Final = "iec62443-4-2:EDR-3.14"  # integrity of the boot process
CR_3_5: Final = "iec62443-4-2:CR-3.5"  # input validation
CR_7_1: Final = "iec62443-4-2:CR-7.1"  # denial of service: essential functions go on
TR_60601: Final = "iec-tr-60601-4-5:EDR-3.10"
SYSTEM_TESTING: Final = "iec81001-5-1:5.7"
FDA_INTEGRITY: Final = "fda-premarket-2023:appendix-1.D"  # code, data and execution integrity
FDA_UPDATES: Final = "fda-premarket-2023:appendix-1.H"  # firmware and software updates
EN_UPDATES: Final = "en303645:5.3-2"  # secure installation of updates
EN_VERIFY: Final = "en303645:5.3-9"  # the device verifies authenticity and integrity
EN_TRUST: Final = "en303645:5.3-10"  # over a network: by a trust relationship
NIST_AUTHENTIC: Final = "nist-sp-800-193:4.2.1.1"  # authenticated update mechanism, rollback among it
NIST_RECOVER: Final = "nist-sp-800-193:4.4"

TUF_ROOT: Final = "tuf:5.3.4"
TUF_ROOT_VERSION: Final = "tuf:5.3.5"
TUF_ROOT_EXPIRY: Final = "tuf:5.3.10"
TUF_FAST_FORWARD: Final = "tuf:5.3.11"
TUF_TIMESTAMP_SIGNED: Final = "tuf:5.4.2"
TUF_TIMESTAMP_ROLLBACK: Final = "tuf:5.4.3"
TUF_TIMESTAMP_EXPIRY: Final = "tuf:5.4.4"
TUF_SNAPSHOT_HASH: Final = "tuf:5.5.2"
TUF_SNAPSHOT_ROLLBACK: Final = "tuf:5.5.5"
TUF_SNAPSHOT_EXPIRY: Final = "tuf:5.5.6"
TUF_TARGETS_HASH: Final = "tuf:5.6.2"
TUF_TARGETS_SIGNED: Final = "tuf:5.6.3"
TUF_TARGETS_ROLLBACK: Final = "tuf:5.6.4"
TUF_TARGETS_EXPIRY: Final = "tuf:5.6.5"
TUF_DELEGATION: Final = "tuf:5.6.7"
TUF_TARGET: Final = "tuf:5.7.2"  # what was downloaded is of the listed length and hash
TUF_ARBITRARY: Final = "tuf:1.5.2-arbitrary-software"
TUF_ROLLBACK: Final = "tuf:1.5.2-rollback"
TUF_FREEZE: Final = "tuf:1.5.2-indefinite-freeze"
TUF_ENDLESS: Final = "tuf:1.5.2-endless-data"
TUF_SLOW: Final = "tuf:1.5.2-slow-retrieval"
TUF_MIX: Final = "tuf:1.5.2-mix-and-match"
TUF_WRONG: Final = "tuf:1.5.2-wrong-software"
TUF_COMPROMISE: Final = "tuf:1.5.2-key-compromise"
TUF_THRESHOLD: Final = "tuf:4.3"

MANY_SIGNATURES: Final = "cve-2020-6173"  # python-tuf: many signatures in one file kept a client busy
ONE_KEY_TWICE: Final = "cve-2020-6174"  # python-tuf: one key that signed several times met a threshold
EXPIRED_GUARDS: Final = "github:theupdateframework/python-tuf#1498"  # what has expired was not used against rollback
UPTANE: Final = "uptane:5.4.4"
MCUBOOT_SIGNATURE: Final = "mcuboot:design-image-signature"
MCUBOOT_COUNTER: Final = "mcuboot:security-counter"
MCUBOOT_SAMPLES: Final = "github:mcu-tools/mcuboot:root-keys"
SMP_UNAUTHENTICATED: Final = "zephyr:smp-protocol"  # SMP has no authentication of its own
