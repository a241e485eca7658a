"""From files to batches: readers, the one decoder, checks, augmentation."""
