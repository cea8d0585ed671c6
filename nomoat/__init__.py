"""nomoat: a reasoning chatbot the way DeepSeek built it, at any budget."""

__version__ = "0.1.0"
