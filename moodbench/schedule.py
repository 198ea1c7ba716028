"""Which job starts next where: the policy, pure, shared by every executor."""
