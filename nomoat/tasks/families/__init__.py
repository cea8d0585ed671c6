"""The families of the package, one file each."""
