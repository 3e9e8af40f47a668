"""What the training stages share: seeds, the state that a checkpoint holds, validation by exact match."""
