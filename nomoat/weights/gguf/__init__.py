"""GGUF, the one-file format of llama.cpp and Ollama: a bounded reader, block types, names, tokenizer, writer."""
