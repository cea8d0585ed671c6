"""Decidable tasks: one family per file, each with a dial, a checker and a worked chain."""
