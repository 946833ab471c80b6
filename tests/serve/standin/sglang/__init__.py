"""A stand-in for SGLang: its launcher's argv, its health, and the ways in which a server goes wrong."""
