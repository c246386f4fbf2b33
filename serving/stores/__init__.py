"""Models in object stores: which versions a store holds, and a local copy of those that are loaded."""
