"""Training: what the paper does to learn two domains, and what people see of it meanwhile."""
