"""Times the strategies beside other libraries and plain numpy, each in its own process: `make bench-strategies`."""
