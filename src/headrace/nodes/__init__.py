"""The node types that Headrace brings; one file each. Others come through the entry-point group `headrace.nodes`."""
