"""Records to tables: intervals, paired differences, composite score, board. Frames in, frames out."""
