"""A resolved spec and the ids already stored to the ordered phases that remain: a pure function."""
