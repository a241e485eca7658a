"""Recipes: what a run is made of, as strict data (`schema`), where it lies (`find`) and how it is read (`load`)."""
