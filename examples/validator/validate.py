"""The component's script: checks one incoming table, and reports what is wrong with it."""

import csv
import json
import os
import re
import sys

name = sys.argv[1]
problems = []
with open(f"/artifacts/incoming/{name}", newline="") as file:
    for number, row in enumerate(csv.DictReader(file), start=2):
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", row["month"] or ""):
            problems.append(f"line {number}: {row['month']!r} is no month")
        if not (row["units"] or "").isdigit():
            problems.append(f"line {number}: {row['units']!r} is no number of units")

os.makedirs("/artifacts/out/reports", exist_ok=True)
with open(f"/artifacts/out/reports/{name}.json", "w") as file:
    json.dump({"table": name, "problems": problems}, file, indent=2)
print(f"{name}: {len(problems)} problems")
sys.exit(1 if problems else 0)
