"""Settings → commands for slime, checked before anything starts; light imports only."""
