"""Features on disk: the HDF5 file, what is read and written of it, and what is wrong with it."""
