"""The page on which people answer the forms of runs."""
