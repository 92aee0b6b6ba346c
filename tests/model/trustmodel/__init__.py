"""An explicit-state model of the rules of trust (DESIGN §4), and what drives the real code by it.

    files ─► owner ─► device, boot ─► courier ─► search ─► scenarios          the model; it imports nothing of the project
                                        forging, twin ─► walk, replay         real metadata, a real board, and the comparison

Not in the model: `requires` and sets, patches, several components, pruned releases, quorums of root and top-level targets, and flash
that tears within one record (`records` proves by itself that a record is old or new).
"""
