"""From checked configurations to run folders, and from those to processes."""
