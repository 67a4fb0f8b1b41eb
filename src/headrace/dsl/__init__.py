"""From a workflow file to a graph: the text (`yaml`), what it says (`document`), how its nodes hang together (`shape`),
and the nodes themselves (`load`). Whatever is wrong with a file is told at once, each with line, node and field.
"""
