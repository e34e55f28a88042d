"""How networks are trained: recipes, losses, optimizer, and one step of the method."""
