"""Runs generated workflows in Dify's own engine and in Headrace, and compares what every node puts out."""
