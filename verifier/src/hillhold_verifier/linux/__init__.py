"""A Linux dev board: state in files, slots in files or block devices, boot flags in U-Boot's environment (docs/FORMAT.md, "A Linux board").

What it cannot do: a security counter in a plain file does not stop whoever has root on the board. A TPM NV index, eFuses or RPMB do; each
would be another `CounterStore` (`slots`).
"""
