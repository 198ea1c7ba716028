"""What should run, as frozen data with content-hash ids; building one touches neither network, disk nor GPU."""
