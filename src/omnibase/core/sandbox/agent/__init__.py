"""What runs inside the guest: standard library only, nothing of OmniBase."""
