"""Product Studio: a shop's page that has a workflow write what it says about a product."""
