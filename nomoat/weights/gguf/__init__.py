"""GGUF, the one-file format of llama.cpp and Ollama: in and out, with bounds, tokenizer and comparison."""
