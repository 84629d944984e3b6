"""Takes 60 MB, a megabyte at a time."""

blocks = []
for _ in range(60):
    blocks.append(bytearray(1_000_000))
print(f"  ok      held {len(blocks)} MB")
