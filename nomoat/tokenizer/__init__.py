"""Text to token ids and back; `chat.py` alone knows the special tokens.  No torch here."""
