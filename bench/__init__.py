"""The benchmark: how fast the service is, measured beside what Python, asyncpg and the machine allow."""
