"""How roles become processes: spawner, supervisor, channels, pools.  No role imports this."""
