"""Apps: workflow files as they are published, served and versioned."""
