"""The wing that acts: incarnations, mailboxes, executors, recovery, the watchdog thread."""
