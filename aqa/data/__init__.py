"""Features on disk and on the device."""
