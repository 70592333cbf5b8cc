"""Walks: the orders in which a net is computed (steps, whole trains, rates), and their state."""
