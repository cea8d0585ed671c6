"""A run on disk: directory, event log, stop, ledger, energy."""
