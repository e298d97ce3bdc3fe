"""Where the world is touched: directories, environment, Ray. Decides what runs where, not how it trains."""
