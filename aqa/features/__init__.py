"""Features on the device: loaded, streamed, cropped, padded and batched."""
