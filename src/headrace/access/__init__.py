"""Access: API keys, the principals that they stand for, and what each may do."""
