"""`ladle demo`: a server, six networks that train while it runs, and their answers."""
