"""A run on disk: directory, record, event log, lock; how it is stopped, what it cost.  No torch here."""
