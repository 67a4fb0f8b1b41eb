"""Access: API keys, their principals, and their permissions."""
