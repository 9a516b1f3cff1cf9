"""Programs: the tenant. A program owns its users, codes and referrals, and says by what policy they live."""
