"""From published files to feature stores: one file per data set, found by name. Import it as `aqa.data_prep`."""
