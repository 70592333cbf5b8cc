"""What a run costs and shows beside its score; called by training and by commands."""
