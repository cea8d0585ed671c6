"""The pages of a server, and the routes that only they ask."""
