"""What a run costs and shows beside its accuracy; called by training and by commands."""
