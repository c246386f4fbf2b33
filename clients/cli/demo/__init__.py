"""`ladle demo`: a server, seven networks that are trained while it runs, and their answers."""
