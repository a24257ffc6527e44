"""From stores to batches on the device: which rows come next, named tensors, the ring, crops."""
