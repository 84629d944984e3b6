"""What runs inside the sandboxes that fetch and unpack packages: standard library only."""
