"""From records to tables: intervals, paired differences, composite score, leaderboard. Frames in, frames out."""
