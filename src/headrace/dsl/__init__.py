"""From a workflow file to a graph: the file as written (`source`), how its nodes hang together (`check`), what they do
about failures (`handling`), and the workflow itself (`load`).
"""
