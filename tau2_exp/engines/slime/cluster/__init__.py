"""Carrying out a plan: Ray, conversions, servers, results."""
