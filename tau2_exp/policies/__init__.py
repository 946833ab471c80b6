"""Who speaks as the agent."""
