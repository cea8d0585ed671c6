"""Text to token ids and back; `layout.py` alone knows the special tokens.  No torch here."""
