"""A step of the engine compiled for this processor: step.c, its build, and the runner that calls it."""
