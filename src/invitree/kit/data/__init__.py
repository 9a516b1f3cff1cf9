"""The database: connections, transactions, notifications, caches."""
