"""What a script leaves behind: files that come out of the guest over one pipe."""
