"""One client for language models behind an API: completion, retries, kept replies, budget, secrets."""
