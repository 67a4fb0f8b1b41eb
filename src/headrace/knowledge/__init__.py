"""Knowledge bases: documents cut into chunks, and the search over them."""
