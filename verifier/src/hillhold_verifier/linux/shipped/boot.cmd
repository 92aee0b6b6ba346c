# Hillhold on U-Boot: which slot boots, for a device of one component ("A Linux board" in docs/FORMAT.md).
#
# Compile it with `mkimage -A arm64 -T script -d boot.cmd boot.scr`, and have bootcmd set these before it runs boot.scr:
#
#   hillhold_read   a command that reads slot ${slot} to ${loadaddr}: ${length} bytes (hexadecimal), or all where that is empty
#   hillhold_boot   a command that boots what lies at ${loadaddr}, if it is signed (bootm of a signed FIT image)
#   reset_cause     "watchdog" where the watchdog reset the board, if the board can tell
#
# U-Boot needs a redundant environment, CONFIG_CMD_HASH with SHA-256, CONFIG_CMD_SETEXPR, and a trusted key for FIT images.

setenv slot ${hillhold_confirmed}
setenv length
setenv trial
if test -n "${hillhold_mark_0}"; then
    setenv digest
    for word in ${hillhold_mark_0}; do
        if test -z "${digest}"; then setenv digest ${word}; else setenv length ${word}; fi
    done
    if test -z "${hillhold_starts}"; then setenv hillhold_starts 0; fi
    setenv trial 1
    if test "${hillhold_starts}" -ge 3; then
        setenv trial
    fi
    # A trial that lost its power is not a failed one; one that the watchdog ended is.
    if test "${reset_cause}" = "watchdog"; then
        if test "${hillhold_starts}" -gt 0; then
            setenv trial
            setenv hillhold_failed_0 ${digest}
        fi
    fi
    if test -n "${trial}"; then
        if test "${hillhold_confirmed}" = "0"; then setenv slot 1; else setenv slot 0; fi
        run hillhold_read
        hash sha256 ${loadaddr} ${length} found
        if test "${found}" != "${digest}"; then setenv trial; fi
    fi
    if test -n "${trial}"; then
        setexpr hillhold_starts ${hillhold_starts} + 1
        # A start that cannot be recorded is none: it could be repeated for ever.
        if saveenv; then true; else setenv trial; fi
    fi
    if test -z "${trial}"; then
        setenv hillhold_mark_0
        setenv hillhold_starts
        saveenv
    fi
fi
if test -z "${trial}"; then
    setenv slot ${hillhold_confirmed}
    setenv length
    run hillhold_read
fi
setenv bootargs ${bootargs} hillhold.slots=${slot}
run hillhold_boot
# It came back: the image is not to be trusted, or not whole.
if test -n "${trial}"; then
    setenv hillhold_mark_0
    setenv hillhold_starts
    saveenv
fi
reset
