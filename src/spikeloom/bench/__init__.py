"""What a training step costs beside its limit and beside other libraries."""
