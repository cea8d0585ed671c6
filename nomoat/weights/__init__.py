"""Open weights, in and out: the published names and layouts, nothing that executes code."""
