"""Power cuts at every flash operation of an update, in every way that `torn` defines, and again during the recovery.

scenario   what happens on the board, as data: no key, nothing that cannot be sent to another process
machine    a board in memory on which it happens
oracle     what must hold after every boot; knows nothing of the bootloader
explore    the cuts, the states in which they leave the flash, and what becomes of each
runner     all of that over many processes
"""
