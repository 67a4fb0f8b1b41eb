"""From a workflow file to a graph: parsing (`yaml_reader`), nodes and edges (`check`, `scopes`), error handling
(`error_handling`), and the workflow as a whole (`load`).
"""
