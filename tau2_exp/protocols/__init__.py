"""A turn as text, in both directions."""
