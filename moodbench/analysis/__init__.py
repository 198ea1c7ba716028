"""From stored records to the results that people ask for: leaderboard, pairs, recommendation, event log."""
