"""Servers of one model: started, waited for, watched, and ended with all that they started."""
