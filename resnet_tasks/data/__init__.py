"""From files to batches: readers, the one decoder, masks, checks, augmentation; and drawing for people."""
