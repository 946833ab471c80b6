"""Groups and overrides → one typed, checked configuration; whatever is wrong becomes one line."""
