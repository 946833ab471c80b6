"""How runs stand, wherever they run: status, cancel, logs."""
