"""The driver: resolve, plan, schedule, execute, and report progress; the one place that joins them."""
