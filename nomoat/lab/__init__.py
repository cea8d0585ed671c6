"""Comparisons: several ways to train beside each other on the same data and the same machine.  No run needs
them."""
