"""Where the cases come from: ids of clauses, of the literature and of known faults, in one place.

`STANDARD:CLAUSE` is a requirement (the report has its paraphrase), `tuf:…` a section of the TUF specification, `cve-…` and
`github:owner/repo#n` a fault that an update system had. A case names a clause only where it is evidence for what that clause asks; what all
attacks of a kind speak to is in `kinds`.
"""

from __future__ import annotations

from typing import Final

SUM_4: Final = "iec62443-4-1:SUM-4"  # updates reach users so that they can be verified to be authentic
SVV_1: Final = "iec62443-4-1:SVV-1"  # security requirements: limits, overload, unexpected input
SVV_2: Final = "iec62443-4-1:SVV-2"  # attempts to defeat a mitigation
SVV_3: Final = "iec62443-4-1:SVV-3"  # vulnerability testing: malformed input, known weaknesses
SVV_4: Final = "iec62443-4-1:SVV-4"  # weaknesses combined into a compromise
CR_3_4: Final = "iec62443-4-2:CR-3.4"  # integrity of software and configuration
CR_3_4_AUTHENTIC: Final = "iec62443-4-2:CR-3.4-RE-1"  # that they are authentic
CR_3_5: Final = "iec62443-4-2:CR-3.5"  # input validation
CR_7_1: Final = "iec62443-4-2:CR-7.1"  # denial of service: essential functions go on
CR_7_4: Final = "iec62443-4-2:CR-7.4"  # back to a known, secure state
EDR_3_10: Final = "iec62443-4-2:EDR-3.10"  # the device can be updated
EDR_3_10_AUTHENTIC: Final = "iec62443-4-2:EDR-3.10-RE-1"  # an update is authentic and whole before it is installed
EDR_3_12: Final = "iec62443-4-2:EDR-3.12"  # the supplier's root of trust is protected
EDR_3_14: Final = "iec62443-4-2:EDR-3.14"  # integrity of what is booted
EDR_3_14_AUTHENTIC: Final = "iec62443-4-2:EDR-3.14-RE-1"  # that it is authentic
TR_SOFTWARE: Final = "iec-tr-60601-4-5:CR-3.4"
TR_UPDATES: Final = "iec-tr-60601-4-5:EDR-3.10"
TR_BOOT: Final = "iec-tr-60601-4-5:EDR-3.14"
TR_ESSENTIAL: Final = "iec-tr-60601-4-5:essential"  # security never stops an essential function
SYSTEM_TESTING: Final = "iec81001-5-1:5.7"
TESTED_REQUIREMENTS: Final = "iec81001-5-1:5.7.1"
TESTED_MITIGATIONS: Final = "iec81001-5-1:5.7.2"
TESTED_WEAKNESSES: Final = "iec81001-5-1:5.7.3"
TESTED_BREAKING_IN: Final = "iec81001-5-1:5.7.4"
FDA_AUTHORISED: Final = "fda-premarket:appendix-1.A-updates"  # updates only after authentication and authorisation
FDA_REPLAY: Final = "fda-premarket:appendix-1.A-replay"
FDA_CRC: Final = "fda-premarket:appendix-1.A-crc"  # a checksum is no protection
FDA_DENY: Final = "fda-premarket:appendix-1.B-deny"  # what is not allowed is denied, on serial connections, too
FDA_DOWNGRADE: Final = "fda-premarket:appendix-1.C-downgrade"
FDA_INTEGRITY: Final = "fda-premarket:appendix-1.D"  # code, data and execution integrity
FDA_DESCRIBED: Final = (
    "fda-premarket:appendix-1.D-authenticate"  # content, versions and other metadata are authenticated
)
FDA_CHANGE: Final = "fda-premarket:appendix-1.D-updates"  # authenticated, and an authorised change of version
FDA_BEFORE_EXECUTION: Final = "fda-premarket:appendix-1.D-before-execution"
FDA_WELL_FORMED: Final = "fda-premarket:appendix-1.D-well-formed"  # data from outside keep to their protocol
FDA_RESILIENT: Final = "fda-premarket:appendix-1.G"  # outages, denial of service, a poor line
FDA_UPDATES: Final = "fda-premarket:appendix-1.H"  # updated in a secure and timely way, throughout its life
FDA_INTERRUPTION: Final = "fda-premarket:appendix-1.H-interruption"
FDA_VALIDATED: Final = "fda-premarket:appendix-1.H-secure"  # users get validated updates
EN_UPDATABLE: Final = "en303645:5.3-1"  # all software can be updated
EN_UPDATES: Final = "en303645:5.3-2"  # secure installation of updates
EN_CRYPTOGRAPHY: Final = "en303645:5.3-7"
EN_VERIFY: Final = "en303645:5.3-9"  # the device verifies authenticity and integrity
EN_TRUST: Final = "en303645:5.3-10"  # over a network: by a trust relationship
EN_BOOT: Final = "en303645:5.7-1"  # the device verifies its software at boot
EN_POWER: Final = "en303645:5.9-2"  # clean recovery from a loss of power
NIST_OUTSIDE: Final = "nist-sp-800-193:4.1.1"  # roots of trust; what comes from outside is untrusted
NIST_KEY_STORE: Final = "nist-sp-800-193:4.1.2"  # keys are updated only by an authenticated mechanism
NIST_MECHANISM: Final = "nist-sp-800-193:4.2.1"  # firmware changes only by an authenticated mechanism
NIST_SIGNED: Final = "nist-sp-800-193:4.2.1.1"  # an update carries a signature, which is verified
NIST_ROLLBACK: Final = "nist-sp-800-193:4.2.1.3"  # no way back to a version that is known to be weak
NIST_CRITICAL: Final = "nist-sp-800-193:4.2.4"  # critical data change only by defined interfaces
NIST_BEFORE_EXECUTION: Final = "nist-sp-800-193:4.3.1"
NIST_RECOVER: Final = "nist-sp-800-193:4.4"
NIST_RESTORED: Final = "nist-sp-800-193:4.4.1"  # back to what is authentic, and not to what must not run any more
CRA_UPDATES: Final = "eu-cra:I-2c"  # security updates
CRA_ACCESS: Final = "eu-cra:I-2d"  # unauthorised access
CRA_INTEGRITY: Final = "eu-cra:I-2f"  # of data, commands, programs and configuration
CRA_AVAILABLE: Final = "eu-cra:I-2h"  # essential functions, under denial of service
CRA_DISTRIBUTED: Final = "eu-cra:II-7"  # secure distribution of updates

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
TUF_TARGET: Final = "tuf:5.7.3"  # what was downloaded is of the listed length and hash
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
