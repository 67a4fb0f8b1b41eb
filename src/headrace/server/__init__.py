"""The HTTP server: sockets, TLS, connections, and an orderly end."""
