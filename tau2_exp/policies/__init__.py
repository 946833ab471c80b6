"""The policies: what acts as the agent."""
