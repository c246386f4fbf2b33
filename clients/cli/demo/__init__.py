"""`ladle demo`: a server, six networks that are trained while it runs, and their answers."""
